"""Noise of a signal with bootstrap draws: what was sampled, and what training adds.

*Sampling*: the covariance of the draws of all checkpoints together, since they read the same documents,
prompts or problems. *Training*: a checkpoint differs from its neighbours on everything. Its variance σ² is
what second differences d_i = Σ_j D_ij·y_j (Gasser, Sroka & Jennen-Steinmetz, Biometrika 73, 1986) have beyond
sampling, where s_i is the sampling variance of d_i (as Paule & Mandel, J. Res. NBS 87, 1982, pool results):

    Σ_i d_i² / (s_i + σ²·‖D_i‖²) = median of its distribution
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import chi2

from babelscope.core.errors import InputError

CERTAIN = 0.25  # of the median variance: a count of 0 in every draw is no proof that it could not be 1


def training_noise(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], sampling: Float[np.ndarray, "n n"]
) -> float:
    """Variance by which checkpoints differ from the line through their neighbours beyond their sampling.

    The sum in the module's equation has the distribution of a multiple of χ² (Satterthwaite). It is set to
    its median, not its mean, which would be too low in most short series.
    """
    gaps = np.diff(x)
    before = gaps[1:] / (gaps[1:] + gaps[:-1])
    rows = np.arange(len(x) - 2)
    differences = np.zeros((len(rows), len(x)))
    differences[rows, rows], differences[rows, rows + 1], differences[rows, rows + 2] = -before, 1, before - 1
    squares = (differences @ y) ** 2
    by_sampling, by_training = differences @ sampling @ differences.T, differences @ differences.T

    def beyond(noise: float) -> float:
        covariance = by_sampling + noise * by_training
        scaled = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        freedom = len(rows) ** 2 / (scaled**2).sum()
        return (squares / np.diag(covariance)).sum() - len(rows) * chi2.median(freedom) / freedom

    most = 4 * (squares / np.diag(by_training)).sum()  # at which even all of it would be too little
    least = 1e-12 * most
    if most == 0 or beyond(least) <= 0:
        return 0.0
    return float(np.asarray(brentq(beyond, least, most)))


class Noise:
    """What simulated series add to a curve, and how much each checkpoint counts in a fit.

    Attributes
    ----------
    training
        Variance that training adds.
    weights : (n,)
        One over the variance of each checkpoint, sampling and training together.

    Raises
    ------
    InputError
        If neither draws nor neighbouring checkpoints vary.
    """

    def __init__(
        self, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], sampling: Float[np.ndarray, "n n"]
    ):
        self.training = training_noise(x, y, sampling)
        variance = np.diag(sampling)
        floor = np.maximum(variance, CERTAIN * np.median(variance)) + self.training
        if floor.min() <= (1e-9 * np.abs(y).max()) ** 2:  # rounding
            raise InputError(
                "most draws do not vary and neighbouring checkpoints do not differ, so there is no noise to"
                " judge a break by; give draws of what was measured"
            )
        self.weights = 1 / floor
        self._root = np.linalg.cholesky(sampling + (self.training + 1e-9 * floor.mean()) * np.eye(len(x)))

    def draw(self, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "n draws"]:
        return self._root @ rng.standard_normal((len(self._root), draws))
