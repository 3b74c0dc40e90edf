"""Scores of a series: how many problems each checkpoint solves, and which ones where that is known.

Which ones matters: checkpoints are asked the same problems, and only outcomes per problem tell how far their
scores err together. Several samples of a problem, and several training runs of one recipe, are averaged per
problem: they make each outcome surer, but problems stay what was drawn from a population.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Int, Shaped

from babelscope.analyses.score_tables import read_runs
from babelscope.core.errors import InputError

FEWEST_STEPS = 6  # a line, one break and a degree of freedom to judge them by


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """One score per checkpoint, by step or by tokens read.

    Attributes
    ----------
    steps : (n,) int
        Ascending. Step 0, where it is given, is shown but not fitted: its logarithm is not a number.
    solved, total : (n,) int
        Answers that were right, and all: problems × samples × runs.
    outcomes : (problems, n) bool or float, or None
        Whether each problem was solved at each step; with several samples or runs, the share of them.
    runs : tuple of ScoreCurve
        Training runs of the same recipe that this is the mean of; empty for one.
    unit : str
        What steps are: "step" or "tokens".

    Raises
    ------
    InputError
        For steps that repeat, are negative or too few, counts that are not numbers, more solved than asked.
    """

    steps: Int[np.ndarray, " n"]
    solved: Int[np.ndarray, " n"]
    total: Int[np.ndarray, " n"]
    outcomes: Shaped[np.ndarray, "problems n"] | None = None
    runs: tuple[ScoreCurve, ...] = ()
    unit: str = "step"

    def __post_init__(self):
        twice, times = np.unique(self.steps, return_counts=True)
        if (times > 1).any():
            raise InputError(f"step {twice[times > 1][0]} is there more than once; give one score each")
        if (self.steps < 0).any():
            raise InputError(f"step {self.steps.min()} is negative; steps count from 0")
        if (positive := (self.steps > 0).sum()) < FEWEST_STEPS:
            raise InputError(
                f"{positive} checkpoint{'' if positive == 1 else 's'} after step 0; stages take at least"
                f" {FEWEST_STEPS}, so score more"
            )
        if (wrong := (self.solved < 0) | (self.solved > self.total) | (self.total < 1)).any():
            at = np.argmax(wrong)
            raise InputError(
                f"step {self.steps[at]}: {self.solved[at]} solved of {self.total[at]};"
                " give 0 ≤ solved ≤ total and at least one problem"
            )

    @classmethod
    def from_outcomes(
        cls, steps: Int[np.ndarray, " n"], outcomes: Shaped[np.ndarray, "problems n"], *, samples: int = 1
    ) -> Self:
        """From per-problem outcomes, one column per step: how many of the samples solved it."""
        steps, outcomes = _whole("steps", steps), np.asarray(outcomes)
        if outcomes.ndim != 2 or outcomes.shape[1] != len(steps) or not len(outcomes):
            raise InputError(
                f"outcomes have shape {outcomes.shape} for {len(steps)} steps; give problems × steps"
            )
        if not (known := np.isin(outcomes, range(samples + 1))).all():
            strange = outcomes[~known].tolist()[0]
            raise InputError(
                f"an outcome is {strange!r}; give True (or 1) for solved, False (or 0) otherwise"
                if samples == 1
                else f"an outcome is {strange!r}; give how many of {samples} samples solved the problem"
            )
        order = np.argsort(steps)
        solved, total = outcomes.sum(0).astype(int), np.full(len(steps), samples * len(outcomes))
        shares = outcomes.astype(bool) if samples == 1 else outcomes / samples
        return cls(steps[order], solved[order], total, shares[:, order])

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

    @classmethod
    def of_runs(cls, runs: Sequence[ScoreCurve]) -> ScoreCurve:
        """The mean of training runs that differ in their seed alone.

        What differs between runs is then measured, not guessed from how restless the curve is.

        Raises
        ------
        InputError
            If runs were scored at different steps or on different numbers of problems.
        """
        if len(runs) < 2:
            raise InputError(f"{len(runs)} training runs; give at least 2, or the one curve itself")
        first = runs[0]
        for one in runs[1:]:
            if not np.array_equal(one.steps, first.steps):
                only = sorted(set(one.steps.tolist()) ^ set(first.steps.tolist()))
                raise InputError(f"not all runs were scored at {first.unit} {only}; score all at the same")
            if not np.array_equal(one.total, first.total):
                raise InputError(
                    f"one run was asked {one.total[0]} problems and another {first.total[0]};"
                    " ask all the same"
                )
        known = [one.outcomes for one in runs if one.outcomes is not None]
        return cls(
            first.steps,
            np.sum([one.solved for one in runs], axis=0),
            np.sum([one.total for one in runs], axis=0),
            np.mean(known, axis=0) if len(known) == len(runs) else None,
            tuple(runs),
            first.unit,
        )

    @property
    def worth(self) -> Int[np.ndarray, " n"]:
        """Independent yes/no answers of the same precision, at each step.

        Samples and runs of a problem agree more than those of different problems: of their shares per problem
        the variance is measured. Where they are not known, runs count as no more than one.
        """
        if self.outcomes is None:
            return self.total // max(len(self.runs), 1)
        share = self.outcomes.mean(0)
        binomial, measured = (share * (1 - share)).sum(), self.outcomes.astype(float).var(0).sum()
        times = binomial / measured if measured > 0 else 1.0
        return np.minimum(np.full(len(self.steps), round(len(self.outcomes) * times)), self.total)

    def since(self, step: int) -> ScoreCurve:
        """Without the checkpoints before a step."""
        kept = self.steps >= step
        outcomes = self.outcomes[:, kept] if self.outcomes is not None else None
        runs = tuple(run.since(step) for run in self.runs)
        return ScoreCurve(self.steps[kept], self.solved[kept], self.total[kept], outcomes, runs, self.unit)

    @classmethod
    def from_table(cls, path: Path, *, x: str | None = None) -> ScoreCurve:
        """From CSV, JSONL or Parquet, over step or tokens: see `score_tables.py` for the columns."""
        unit, runs = read_runs(Path(path), x=x)
        curves = [
            cls.from_counts(run.steps, run.solved, run.asked)
            if run.solved.ndim == 1
            else cls.from_outcomes(run.steps, run.solved, samples=int(run.asked))
            for run in runs
        ]
        named = [replace(curve, unit=unit) for curve in curves]
        return cls.of_runs(named) if len(named) > 1 else named[0]


def _whole(name: str, values: Any) -> Int[np.ndarray, " n"]:
    numbers = np.atleast_1d(np.asarray(values))
    if numbers.dtype.kind not in "iufb":
        raise InputError(f"{name} has {numbers.tolist()[0]!r}; give whole numbers")
    if (strange := ~np.isfinite(numbers) | (numbers != np.round(numbers))).any():
        raise InputError(f"{name} has {numbers[strange][0]}; give whole numbers")
    return numbers.astype(int)
