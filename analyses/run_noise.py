"""Training noise, measured where a recipe was trained with several seeds.

With one run it can only be told from how restless the curve is. With several, runs are compared at the same
step: what is left of each logit after the mean of its step and the lasting difference of its run (which
shifts the curve and makes no break) is training noise and the luck of problems that runs do not share. The
latter's variance is known, so the likelihood of the former is that of a scaled χ².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from babelscope.analyses.score_curve import ScoreCurve


@dataclass(frozen=True)
class RunNoise:
    """Mean square between runs.

    Attributes
    ----------
    square
        Of one run at one step, in the logit.
    by_problems
        What problems alone would make it.
    freedom
        Degrees of freedom of the mean square.
    offset
        Variance of what differs between runs at all steps alike.
    """

    square: float
    by_problems: float
    freedom: float
    offset: float

    @property
    def variance(self) -> float:
        """Of the training noise of one run: the excess."""
        return max(0.0, self.square - self.by_problems)

    def log_likelihood(self, sigma: Float[np.ndarray, " noise"]) -> Float[np.ndarray, " noise"]:
        """Of standard deviations of the training noise."""
        expected = sigma**2 + self.by_problems
        return -self.freedom / 2 * (np.log(expected) + self.square / expected)


def between_runs(curve: ScoreCurve) -> RunNoise:
    """Compare the runs of a curve, at the steps after 0."""
    used = curve.steps > 0
    solved = np.stack([run.solved[used] for run in curve.runs])
    total = np.stack([run.total[used] for run in curve.runs])
    runs = len(solved)
    logits = np.log((solved + 0.5) / (total - solved + 0.5))
    share = (solved.mean(0) + 0.5) / (total[0] + 1)
    slope = share * (1 - share)
    known = [run.outcomes[:, used] for run in curve.runs if run.outcomes is not None]
    if len(known) == runs:
        outcomes = np.stack(known).astype(float)  # (runs, problems, n)
        apart = (outcomes - outcomes.mean(0)).var(1).sum(0) / (runs - 1)
        luck = (apart / outcomes.shape[1] + 0.25 / total[0] ** 2) / slope**2
    else:
        luck = 1 / (total[0] * slope)
    weights = total[0] * slope / (total[0] * slope).sum()  # few solved say little of a logit
    by_step = logits - logits.mean(0)
    lasting = by_step @ weights
    squares = ((by_step - lasting[:, None]) ** 2).sum(0) / (runs - 1)
    # The lasting difference takes a weighted degree of freedom of each run.
    left = 1 - float((weights**2).sum())
    square = float(weights @ squares) / left
    return RunNoise(
        square=square,
        by_problems=float(weights @ luck),
        freedom=(runs - 1) * left / float((weights**2).sum()),
        offset=max(0.0, float(lasting.var(ddof=1)) - square * float((weights**2).sum())),
    )
