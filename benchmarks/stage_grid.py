"""The detector against known truths: every truth × size × noise, and what a run got right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from babelscope.analyses.stages import StageDetector
from benchmarks.stage_truths import DESIGNS, NOISES, Truth, draw_scores, draw_truth

POINTS, PROBLEMS = (10, 20, 40, 60), (150, 500, 1000, 2000)
CENTRE = 20, 1000  # the size that power is asked of
MORE = 4  # times the repeats there, and of flat curves, whose false stages are rare
LEVEL, DRAWS = 0.9, 99

Scores = dict[str, float]
Tally = dict[str, tuple[int, float, float]]  # of each quantity: runs that define it, sum, sum of squares


@dataclass(frozen=True)
class Cell:
    """One truth, one size, one kind of noise."""

    design: str
    points: int
    problems: int
    noise: str

    @property
    def key(self) -> str:
        return f"grid: {self.design}, {self.points} × {self.problems}, {self.noise}"

    def repeats(self, repeats: int) -> int:
        more = self.design == "flat" or (self.points, self.problems) == CENTRE
        return repeats * (MORE if more else 1)

    def run(self, rng: np.random.Generator, number: int) -> Scores:
        design = DESIGNS[self.design]
        truth = draw_truth(design, self.points, rng)
        curve = draw_scores(truth, self.problems, self.noise, rng)
        return judge(StageDetector(level=LEVEL, draws=DRAWS, seed=number).fit(curve), truth, design.shapes)


GRID = [
    Cell(design, points, problems, noise)
    for points in POINTS
    for problems in PROBLEMS
    for noise in NOISES
    for design in DESIGNS
]


def judge(stages: StageDetector, truth: Truth, shapes: Iterable[str]) -> Scores:
    """What one run got right: 1, 0, or a share. A quantity that is not defined is left out.

    Intervals of breaks are judged where there are as many as in truth. Flat curves and plateaus have no one
    best checkpoint to cover.
    """
    p, found = truth.p, stages.breaks_
    held: Scores = {
        "any break": len(found) > 0,
        "right number": len(found) == len(truth.breaks),
        "right shape": stages.shape_ in shapes,
        "rises and falls": stages.rises_and_falls_,
        "curve": float(np.mean((stages.band_[:, 0] <= p) & (p <= stages.band_[:, 1]))),
        "rise": _covers(stages.rise_.low, p.max() - p[0], stages.rise_.high),
        "fall": _covers(stages.fall_.low, p.max() - p[-1], stages.fall_.high),
    }
    if len(found) == len(truth.breaks) > 0:
        pairs = zip(found, 10**truth.breaks, strict=True)
        held["breaks"] = float(np.mean([_covers(one.low, step, one.high) for one, step in pairs]))
    top = truth.steps[np.isclose(p, p.max(), rtol=1e-9)]
    if len(top) == 1 and stages.best_interval_ is not None:
        held["best"] = _covers(stages.best_interval_[0], top[0], stages.best_interval_[1])
    return held


def _covers(low: float, value: float, high: float) -> bool:
    return low <= value <= high


def tally(runs: Iterable[Mapping[str, float]]) -> Tally:
    """Of each quantity: how many runs define it, its sum and its sum of squares."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.items():
            values.setdefault(name, []).append(float(value))
    return {name: (len(row), sum(row), sum(value**2 for value in row)) for name, row in values.items()}


def pooled(tallies: Iterable[Tally], name: str) -> tuple[float, float, int]:
    """Mean over the runs of all cells, twice its standard error, how many runs; NaN where never defined."""
    sums = [one[name] for one in tallies if name in one]
    if not sums:
        return np.nan, np.nan, 0
    runs, total, squares = np.sum(sums, axis=0)
    mean = total / runs
    return mean, 2 * np.sqrt(max(squares / runs - mean**2, 0) / runs), int(runs)
