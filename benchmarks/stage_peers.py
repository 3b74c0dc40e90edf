"""The detector beside ruptures 1.1 (PELT, Dynp; jump = 1) and beside the checkpoint that scored best.

The truth rises from .10 to .19, falls to .11 and stays, with two breaks at random places, as in the usual
picture of the three stages; scores are independent binomials. ruptures sees shares by index, as it is used:

- PELT with steps (`l2`, its default of at least 2 points a segment) and the penalty 2·σ²·ln n, BIC's for two
  parameters per break, with the binomial variance known: σ² = p̄(1 − p̄)/problems;
- Dynp with steps (`l2`) and with continuous lines (`clinear`), told the true number of breaks. Lines go
  through end points there; they are not least squares.

The break of a step lies midway between its two checkpoints, in log10(step).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import ruptures
from jaxtyping import Float

from babelscope.analyses.stages import StageDetector
from benchmarks.stage_grid import DRAWS, LEVEL, MORE, Scores
from benchmarks.stage_truths import DESIGNS, Design, draw_scores, draw_truth

RISE_AND_FALL = Design((0.10, 0.19, 0.11, 0.11), ((0.25, 0.40), (0.60, 0.75)), ())
OURS, PELT, DYNP_STEPS, DYNP_LINES, ARGMAX = "babelscope", "PELT l2", "Dynp l2", "Dynp clinear", "argmax"
METHODS = (OURS, PELT, DYNP_STEPS, DYNP_LINES, ARGMAX)


@dataclass(frozen=True)
class PeerCell:
    """All methods on the same curves of one size."""

    points: int
    problems: int

    @property
    def key(self) -> str:
        return f"peers: {self.points} × {self.problems}"

    def repeats(self, repeats: int) -> int:
        return MORE * repeats

    def run(self, rng: np.random.Generator, number: int) -> Scores:
        """Of each method on one curve that rises and falls, and on a flat one, what it got right."""
        truth = draw_truth(RISE_AND_FALL, self.points, rng)
        curve = draw_scores(truth, self.problems, "binomial", rng)
        flat = draw_scores(draw_truth(DESIGNS["flat"], self.points, rng), self.problems, "binomial", rng)
        x, share, level_share = np.log10(truth.steps), curve.solved / curve.total, flat.solved / flat.total
        detector = StageDetector(level=LEVEL, draws=DRAWS, seed=number)
        false = {OURS: len(detector.fit(flat).breaks_), PELT: len(pelt(x, level_share, self.problems))}
        stages = detector.fit(curve)
        found = {
            OURS: np.log10([one.step for one in stages.breaks_]),
            PELT: pelt(x, share, self.problems),
            DYNP_STEPS: dynp(x, share, len(truth.breaks), model="l2"),
            DYNP_LINES: dynp(x, share, len(truth.breaks), model="clinear"),
        }
        held: Scores = {f"{name}: any break, flat": number > 0 for name, number in false.items()}
        for name, breaks in found.items():
            held[f"{name}: right number"] = len(breaks) == len(truth.breaks)
            if len(breaks) == len(truth.breaks):
                held[f"{name}: error of breaks"] = float(np.abs(breaks - truth.breaks).mean())
        best = x[truth.p.argmax()]
        if stages.best_step_ is not None:
            held[f"{OURS}: error of best"] = abs(np.log10(stages.best_step_) - best)
        held[f"{ARGMAX}: error of best"] = abs(x[share.argmax()] - best)
        return held


PEER_CELLS = [PeerCell(points, problems) for problems in (161, 1000) for points in (12, 20, 40)]


def pelt(
    x: Float[np.ndarray, " n"], share: Float[np.ndarray, " n"], problems: int
) -> Float[np.ndarray, " k"]:
    """Breaks of a step function, their number by a penalty."""
    mean = share.mean()
    penalty = 2 * mean * (1 - mean) / problems * np.log(len(x))
    ends = ruptures.Pelt(model="l2", jump=1).fit(share).predict(pen=penalty)[:-1]
    return _between(x, ends)


def dynp(
    x: Float[np.ndarray, " n"], share: Float[np.ndarray, " n"], breaks: int, *, model: str
) -> Float[np.ndarray, " k"]:
    """Breaks of the best curve with so many: steps ("l2") or continuous lines ("clinear")."""
    ends = ruptures.Dynp(model=model, jump=1).fit(share).predict(n_bkps=breaks)[:-1]
    # A line ends at the last point of its segment, where the next one begins.
    return x[np.array(ends) - 1] if model == "clinear" else _between(x, ends)


def _between(x: Float[np.ndarray, " n"], starts: list[int]) -> Float[np.ndarray, " k"]:
    after = np.array(starts, int)
    return (x[after - 1] + x[after]) / 2
