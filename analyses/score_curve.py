"""Scores of a series: how many problems each checkpoint solves, and which ones where that is known.

Which ones matters: checkpoints are asked the same problems, and only outcomes per problem tell how far their
scores err together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Bool, Int, Shaped

from babelscope.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FEWEST_STEPS = 6  # a line, one break and a degree of freedom to judge them by


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """One score per checkpoint, by step.

    Attributes
    ----------
    steps : (n,) int
        Ascending. Step 0, where it is given, is shown but not fitted: its logarithm is not a number.
    solved, total : (n,) int
        Problems solved and asked.
    outcomes : (problems, n) bool or None
        Whether each problem was solved at each step.

    Raises
    ------
    InputError
        For steps that repeat, are negative or too few, counts that are not numbers, more solved than asked.
    """

    steps: Int[np.ndarray, " n"]
    solved: Int[np.ndarray, " n"]
    total: Int[np.ndarray, " n"]
    outcomes: Bool[np.ndarray, "problems n"] | None = None

    def __post_init__(self):
        twice, times = np.unique(self.steps, return_counts=True)
        if (times > 1).any():
            raise InputError(f"step {twice[times > 1][0]} is there more than once; give one score each")
        if (self.steps < 0).any():
            raise InputError(f"step {self.steps.min()} is negative; steps count from 0")
        if (positive := (self.steps > 0).sum()) < FEWEST_STEPS:
            raise InputError(
                f"{positive} checkpoints after step 0; stages take at least {FEWEST_STEPS}, so score more"
            )
        if (wrong := (self.solved < 0) | (self.solved > self.total) | (self.total < 1)).any():
            at = np.argmax(wrong)
            raise InputError(
                f"step {self.steps[at]}: {self.solved[at]} solved of {self.total[at]};"
                " give 0 ≤ solved ≤ total and at least one problem"
            )

    @classmethod
    def from_outcomes(cls, steps: Int[np.ndarray, " n"], outcomes: Shaped[np.ndarray, "problems n"]) -> Self:
        """From per-problem outcomes, one column per step: True or 1 for solved."""
        steps, outcomes = _whole("steps", steps), np.asarray(outcomes)
        if outcomes.ndim != 2 or outcomes.shape[1] != len(steps) or not len(outcomes):
            raise InputError(
                f"outcomes have shape {outcomes.shape} for {len(steps)} steps; give problems × steps"
            )
        if not np.isin(outcomes, (0, 1)).all():
            strange = outcomes[~np.isin(outcomes, (0, 1))].tolist()[0]
            raise InputError(
                f"an outcome is {strange!r}; give True (or 1) for solved, False (or 0) otherwise"
            )
        order, outcomes = np.argsort(steps), outcomes.astype(bool)
        solved, total = outcomes.sum(0), np.full(len(steps), len(outcomes))
        return cls(steps[order], solved[order], total, outcomes[:, order])

    @classmethod
    def from_counts(
        cls, steps: Int[np.ndarray, " n"], solved: Int[np.ndarray, " n"], total: Int[np.ndarray, "*n"] | int
    ) -> Self:
        """From counts alone; `total` may be one number for all steps."""
        steps, solved = _whole("steps", steps), _whole("solved", solved)
        total = _whole("total", total)
        if solved.shape != steps.shape or total.size not in (1, len(steps)):
            raise InputError(
                f"{len(steps)} steps, {solved.size} solved, {total.size} totals; give one for each"
            )
        order = np.argsort(steps)
        return cls(steps[order], solved[order], np.broadcast_to(total, steps.shape)[order])

    def since(self, step: int) -> ScoreCurve:
        """Without the checkpoints before a step."""
        kept = self.steps >= step
        outcomes = self.outcomes[:, kept] if self.outcomes is not None else None
        return ScoreCurve(self.steps[kept], self.solved[kept], self.total[kept], outcomes)

    @classmethod
    def from_table(cls, path: Path) -> Self:
        """From CSV, JSONL or Parquet with columns step, solved, total or step, problem, passed."""
        table = _read(Path(path))
        columns = set(table.columns)
        if columns >= {"step", "problem", "passed"}:
            return cls.from_outcomes(*_wide(table, Path(path)))
        if columns >= {"step", "solved", "total"}:
            return cls.from_counts(*(table[name].to_numpy() for name in ("step", "solved", "total")))
        raise InputError(
            f"{path} has the columns {', '.join(map(repr, table.columns)) or 'none'};"
            " it needs step, solved, total or step, problem, passed"
        )


def _read(path: Path) -> pd.DataFrame:
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


def _wide(table: pd.DataFrame, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Steps and the outcomes (problem × step) of a long table."""
    twice = table[table.duplicated(["step", "problem"])]
    if len(twice):
        problem, step = twice.iloc[0][["problem", "step"]]
        raise InputError(f"{path}: problem {problem!r} is there more than once at step {step}; give it once")
    wide = table.pivot(index="problem", columns="step", values="passed")
    missing = np.argwhere(wide.isna().to_numpy())
    if len(missing):
        problem, step = wide.index[missing[0, 0]], wide.columns[missing[0, 1]]
        raise InputError(
            f"{path}: problem {problem!r} has no outcome at step {step}; ask the same problems at every step"
        )
    return wide.columns.to_numpy(), wide.to_numpy()


def _whole(name: str, values: Any) -> Int[np.ndarray, " n"]:
    numbers = np.atleast_1d(np.asarray(values))
    if numbers.dtype.kind not in "iufb":
        raise InputError(f"{name} has {numbers.tolist()[0]!r}; give whole numbers")
    if (strange := ~np.isfinite(numbers) | (numbers != np.round(numbers))).any():
        raise InputError(f"{name} has {numbers[strange][0]}; give whole numbers")
    return numbers.astype(int)
