"""What is fitted to a score curve before anything is decided: likeliest lines, posterior, tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit

from babelscope.analyses.curve_posterior import NOISE, BrokenLinePosterior, own_covariance
from babelscope.analyses.power import Design
from babelscope.analyses.run_noise import between_runs
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.segmented import SegmentedLogit, shrunk_correlation, training_noise

PLACES = 40  # of breaks, for intervals
TEST_PLACES = 16  # and for the tests, which weigh them for every simulated series


@dataclass(frozen=True)
class Likeliest:
    """The likeliest curve with a given number of breaks."""

    eta: Float[np.ndarray, " n"]  # logit at each checkpoint
    breaks: Int[np.ndarray, " k"]  # nearest checkpoints


class ScoreModel:
    """The checkpoints after step 0 of one curve, fitted with every number of breaks.

    Parameters
    ----------
    curve
        To fit.
    max_breaks
        Most breaks to consider; fewer where a fit would leave no residual degree of freedom.

    Attributes
    ----------
    steps, x : (n,)
        Steps (or tokens) and their log10.
    fits : list of Likeliest
        The likeliest curve with 0, 1, … breaks.
    posterior : FittedPosterior
        Weights of all breaks and of the training noise.
    design : Design
        How the curve was scored.
    """

    def __init__(self, curve: ScoreCurve, *, max_breaks: int):
        used = curve.steps > 0
        self.steps = curve.steps[used]
        self.x = np.log10(self.steps)
        worth = curve.worth[used]
        self._solved = worth * (curve.solved / curve.total)[used]
        shared = (
            np.eye(len(self.x)) if curve.outcomes is None else shrunk_correlation(curve.outcomes[:, used])
        )
        self._between = between_runs(curve) if curve.runs else None
        self.runs = max(len(curve.runs), 1)
        noise = (
            training_noise(self.x, self._solved, worth, shared)[0]
            if self._between is None
            else self._between.variance / self.runs
        )
        self._model = SegmentedLogit(self.x, worth, correlation=shared, noise=noise, max_breaks=max_breaks)
        self._around = self._model.fit(self._solved, self._model.max_breaks).eta
        self.design = Design(
            self.x, worth, shared, noise=noise * self.runs, runs=self.runs, max_breaks=self._model.max_breaks
        )
        self.posterior = self._lines(PLACES, own=True).fit(self._model.empirical(self._solved))
        self.fits = [self._likeliest(k) for k in range(self._model.max_breaks + 1)]

    def _likeliest(self, breaks: int) -> Likeliest:
        # As a probability, since on the way to 0 logits bend where empirical ones do not.
        logits, checkpoints = self.posterior.likeliest(breaks)
        return Likeliest(logit(self._model.probability(logits).clip(1e-9, 1 - 1e-9)), checkpoints)

    def _lines(self, places: int, *, own: bool = False) -> BrokenLinePosterior:
        lasting = self._between.offset / self.runs if self._between else 0.0  # shifts the whole curve
        by_problems = self._model.by_problems(self._around) + lasting
        return BrokenLinePosterior(
            self.x,
            by_problems,
            weighed_by=own_covariance(by_problems) if own else None,
            noise=self._model.noise,
            sensitivity=self._model.sensitivity(self._around),
            places=places,
            max_breaks=self._model.max_breaks,
            runs=self.runs,
            between=self._between.log_likelihood(NOISE) if self._between else None,
        )

    def p_values(self, *, size: float, draws: int, rng: np.random.Generator) -> list[float]:
        """Of k breaks against more, from k = 0 up to the first that a test of this size does not reject."""
        lines, found = self._lines(TEST_PLACES), []
        for k, null in enumerate(self.fits[:-1]):
            # What the noise would be without further breaks: a smaller one would make their gain a surprise.
            noise = rng.choice(NOISE, draws, p=self.posterior.noise(k)) ** 2 / self.runs
            found.append(self._model.test(self._solved, null.eta, lines, breaks=k, noise=noise, rng=rng))
            if found[-1] > size:
                break
        return found

    def curves(
        self, numbers: Sequence[int], *, draws: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "draws n"]:
        """Posterior draws of the probability, averaged over some numbers of breaks."""
        return self._model.probability(self.posterior.curves(numbers, draws, rng)).T

    def bumped(self, height: float) -> Float[np.ndarray, " n"]:
        """Logits of the straight line with a bump that is highest in the middle of the run.

        It points away from the nearer of 0 and 1, where there is room.
        """
        p, x = expit(self.fits[0].eta), self.x
        sign = 1 if p.mean() < 0.5 else -1
        bump = np.interp(x, [x[0], (x[0] + x[-1]) / 2, x[-1]], [0, sign * height, 0])
        return logit((p + bump).clip(1e-6, 1 - 1e-6))
