"""Score curves from plain tables: CSV, JSONL or Parquet.

    step | tokens, solved, total [, seed]                   counts
    step | tokens, problem, passed [, sample] [, seed]      outcomes, which tell what checkpoints share

`sample` numbers several completions of one problem, `seed` training runs of the same recipe.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from babelscope.analyses.score_curve import ScoreCurve
from babelscope.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

AXES = ("step", "tokens")
COUNTS, OUTCOMES = ("solved", "total"), ("problem", "passed")


def read_curve(path: Path, *, x: str | None = None) -> ScoreCurve:
    """The curve of a table; over step, or over tokens where there is no step or `x` says so.

    Raises
    ------
    InputError
        If columns are missing, or rows are missing or repeated.
    """
    table = read_table(path)
    columns = set(table.columns)
    found = [name for name in AXES if name in columns]
    kind = next((kind for kind in (OUTCOMES, COUNTS) if columns >= set(kind)), None)
    if not found or kind is None:
        raise InputError(
            f"{path} has the columns {', '.join(map(repr, table.columns)) or 'none'};"
            " it needs step (or tokens) with solved, total or with problem, passed"
        )
    if x is not None and x not in found:
        raise InputError(f"--x {x!r}: {path} has {' and '.join(found)}; give one of these")
    axis = x or found[0]
    if "seed" not in columns:
        return _curve(table, path, axis, kind)
    by_seed = dict(list(table.groupby("seed")))
    if kind == OUTCOMES:
        asked = {seed: set(rows["problem"]) for seed, rows in by_seed.items()}
        first = next(iter(asked))
        for seed, problems in asked.items():
            if odd := sorted(map(str, problems ^ asked[first])):
                raise InputError(
                    f"{path}: problem {odd[0]!r} was asked of one of the seeds {first} and {seed} alone;"
                    " ask all the same"
                )
    runs = [_curve(rows, path, axis, kind) for rows in by_seed.values()]
    return ScoreCurve.of_runs(runs) if len(runs) > 1 else runs[0]


def read_table(path: Path) -> pd.DataFrame:
    """Any table that users give; `InputError` if it is none."""
    import pandas as pd  # half a second that arrays in memory do not need

    readers: dict[str, Any] = {
        ".csv": pd.read_csv,
        ".jsonl": lambda file: pd.read_json(file, lines=True),
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise InputError(f"{path} ends in {path.suffix!r}; give a table in {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not a {path.suffix[1:]} table: {error}") from None


def _curve(table: pd.DataFrame, path: Path, axis: str, kind: tuple[str, ...]) -> ScoreCurve:
    if kind == COUNTS:
        curve = ScoreCurve.from_counts(*(table[name].to_numpy() for name in (axis, *COUNTS)))
    else:
        steps, solved, samples = _wide(table, path, axis)
        curve = ScoreCurve.from_outcomes(steps, solved, samples=samples)
    return replace(curve, unit=axis)


def _wide(
    table: pd.DataFrame, path: Path, axis: str
) -> tuple[np.ndarray, Int[np.ndarray, "problems n"], int]:
    """Steps, how often each problem (a row) was solved at each, and samples of each."""
    keys = [axis, "problem", *(["sample"] if "sample" in table.columns else [])]
    twice = table[table.duplicated(keys)]
    if len(twice):
        problem, step = twice.iloc[0][["problem", axis]]
        raise InputError(
            f"{path}: problem {problem!r} is there more than once at {axis} {step}; give it once,"
            " or number its samples in a column sample and training runs in a column seed"
        )
    strange = table["passed"][~table["passed"].isin((0, 1))]
    if len(strange):
        raise InputError(
            f"{path}: passed has {strange.iloc[0]!r}; give true (or 1) for solved, false (or 0) else"
        )
    by = table.assign(passed=table["passed"].astype(int)).groupby(["problem", axis])["passed"]
    asked, solved = by.size().unstack(fill_value=0), by.sum().unstack(fill_value=0)
    samples = int(asked.to_numpy().max())
    missing = np.argwhere(asked.to_numpy() < samples)
    if len(missing):
        problem, step = asked.index[missing[0, 0]], asked.columns[missing[0, 1]]
        count = asked.to_numpy()[tuple(missing[0])]
        had = f"{count} of {samples} samples" if count else "no outcome"
        raise InputError(f"{path}: problem {problem!r} has {had} at {axis} {step}; ask the same at every one")
    return solved.columns.to_numpy(), solved.to_numpy(), samples
