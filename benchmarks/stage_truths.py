"""Score curves whose truth is known, and three ways in which their scores err.

A truth is a continuous line in the logit over log10(step), as the detector's model is, so that its breaks are
defined; they fall at random places within a stated part of the run, not on checkpoints. Checkpoints are
log-spaced from step 100 to step 100,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit
from scipy.stats import norm

from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.shapes import BABEL, FLAT, LATE_RISE

FIRST, LAST = 2.0, 5.0  # log10 of the steps
TRAINING_NOISE = 0.2  # standard deviation in the logit, of a checkpoint on all problems
DIFFICULTY = 1.5  # spread of problems, in units of what varies from checkpoint to checkpoint
NOISES = ("binomial", "shared", "overdispersed")


@dataclass(frozen=True)
class Design:
    """Scores at the start, at each break and at the end; where breaks may be, as parts of the run."""

    levels: tuple[float, ...]
    places: tuple[tuple[float, float], ...]
    shapes: tuple[str, ...]  # names of the detector that are right


DESIGNS = {
    FLAT: Design((0.15, 0.15), (), (FLAT,)),
    "rise": Design((0.08, 0.25), (), ("only rising",)),
    "rise-plateau": Design((0.08, 0.24, 0.24), ((0.35, 0.65),), ("rise-plateau",)),
    "rise-fall-plateau": Design((0.10, 0.20, 0.10, 0.10), ((0.25, 0.40), (0.60, 0.75)), (BABEL,)),
    "flat-rise-fall-plateau": Design(
        (0.05, 0.05, 0.20, 0.10, 0.10), ((0.15, 0.25), (0.40, 0.50), (0.65, 0.75)), (BABEL,)
    ),
    "two peaks": Design(
        (0.06, 0.25, 0.10, 0.20, 0.06), ((0.20, 0.30), (0.45, 0.55), (0.70, 0.80)), ("two peaks",)
    ),
    "late rise": Design((0.08, 0.08, 0.25), ((0.60, 0.75),), (LATE_RISE,)),
}


@dataclass(frozen=True)
class Truth:
    """The curve that scores are drawn around.

    Attributes
    ----------
    steps, p : (n,)
        Checkpoints and the probability that a problem is solved there.
    breaks : (k,)
        log10 of the steps at which the trend changes.
    """

    steps: Int[np.ndarray, " n"]
    p: Float[np.ndarray, " n"]
    breaks: Float[np.ndarray, " k"]


def draw_truth(design: Design, n: int, rng: np.random.Generator) -> Truth:
    """A curve of that design at n checkpoints, its breaks at random places."""
    steps = np.logspace(FIRST, LAST, n).round().astype(int)
    places = FIRST + (LAST - FIRST) * np.array([rng.uniform(*place) for place in design.places])
    eta = np.interp(np.log10(steps), [FIRST, *places, LAST], logit(design.levels))
    return Truth(steps, expit(eta), places)


def draw_scores(truth: Truth, problems: int, noise: str, rng: np.random.Generator) -> ScoreCurve:
    """Scores of that truth.

    "binomial": counts, each checkpoint by itself. "shared": outcomes of the same problems at every step, each
    with a difficulty of its own. "overdispersed": the same, and each checkpoint is off by N(0, 0.2²) in the
    logit on all problems.
    """
    p = truth.p
    if noise == "binomial":
        return ScoreCurve.from_counts(truth.steps, rng.binomial(problems, p), problems)
    if noise == "overdispersed":
        p = expit(logit(p) + TRAINING_NOISE * rng.standard_normal(len(p)))
    difficulty = DIFFICULTY * rng.standard_normal((problems, 1))
    reach = np.hypot(DIFFICULTY, 1) * norm.ppf(p)  # so that a share p of problems is within it
    return ScoreCurve.from_outcomes(truth.steps, difficulty + rng.standard_normal((problems, len(p))) < reach)
