"""Score curves from plain tables: CSV, JSONL or Parquet.

    step | tokens, solved, total [, seed]                   counts
    step | tokens, problem, passed [, sample] [, seed]      outcomes, which tell what checkpoints share

`sample` numbers several completions of one problem, `seed` training runs of the same recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from babelscope.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

AXES = ("step", "tokens")
COUNTS, OUTCOMES = ("solved", "total"), ("problem", "passed")


@dataclass(frozen=True)
class Run:
    """The scores of one training run, as its table has them.

    Attributes
    ----------
    steps : (n,)
        Steps or tokens.
    solved : (n,) or (problems, n)
        Counts; or of each problem, how many samples solved it.
    asked : (n,) or int
        Problems at each step; or samples of each problem.
    """

    steps: np.ndarray
    solved: Shaped[np.ndarray, "*problems n"]
    asked: np.ndarray | int


def read_runs(path: Path, *, x: str | None = None) -> tuple[str, list[Run]]:
    """What steps are, and the runs of a table; over step, or over tokens where `x` says so or is no step.

    Raises
    ------
    InputError
        If columns are missing, or rows are missing or repeated.
    """
    table = read_table(path)
    if table.empty:
        raise InputError(f"{path} has no rows; give one per checkpoint, or per checkpoint and problem")
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
    by_seed = dict(list(table.groupby("seed"))) if "seed" in columns else {None: table}
    if kind == OUTCOMES:
        _check_problems({seed: set(rows["problem"]) for seed, rows in by_seed.items()}, path)
    return axis, [_run(rows, path, axis, kind) for rows in by_seed.values()]


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


def _check_problems(asked: dict[Any, set[Any]], path: Path) -> None:
    first = next(iter(asked))
    for seed, problems in asked.items():
        if odd := sorted(map(str, problems ^ asked[first])):
            raise InputError(
                f"{path}: problem {odd[0]!r} was asked of one of the seeds {first} and {seed} alone;"
                " ask all the same"
            )


def _run(table: pd.DataFrame, path: Path, axis: str, kind: tuple[str, ...]) -> Run:
    if kind == COUNTS:
        return Run(*(table[name].to_numpy() for name in (axis, *COUNTS)))
    return _wide(table, path, axis)


def _wide(table: pd.DataFrame, path: Path, axis: str) -> Run:
    """How often each problem (a row) was solved at each step (a column)."""
    keys = [axis, "problem", *(["sample"] if "sample" in table.columns else [])]
    twice = table[table.duplicated(keys)]
    if len(twice):
        problem, step = twice.iloc[0][["problem", axis]]
        raise InputError(
            f"{path}: problem {problem!r} is there more than once at {axis} {step}; give it once,"
            " or number its samples in a column sample and training runs in a column seed"
        )
    if strange := set(table["passed"]) - {0, 1}:
        # One word among numbers makes text of all of them: quote the word.
        worst = min(
            strange, key=lambda value: (str(value).lower() in ("0", "1", "true", "false"), str(value))
        )
        raise InputError(f"{path}: passed has {worst!r}; give true (or 1) for solved, false (or 0) else")
    numbers = table.assign(passed=table["passed"].astype(int))
    asked, solved = (
        numbers.pivot_table(index="problem", columns=axis, values="passed", aggfunc=how, fill_value=0)
        for how in ("count", "sum")
    )
    samples = int(asked.to_numpy().max())
    missing = np.argwhere(asked.to_numpy() < samples)
    if len(missing):
        problem, step = asked.index[missing[0, 0]], asked.columns[missing[0, 1]]
        count = asked.to_numpy()[tuple(missing[0])]
        had = f"{count} of {samples} samples" if count else "no outcome"
        raise InputError(f"{path}: problem {problem!r} has {had} at {axis} {step}; ask the same at every one")
    return Run(solved.columns.to_numpy(), solved.to_numpy(), samples)
