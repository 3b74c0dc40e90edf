"""Continuous piecewise-linear regression in the logit, and a calibrated test of more breaks.

    logit p(x) = b0 + b1·x + Σ_k d_k·max(x − τ_k, 0),   k = 1 … K,      solved ~ Binomial(total, p)

Breaks τ are searched exhaustively (`broken_lines.py`): one Fisher-scoring step of every candidate, for every
simulated curve at once.
Three things make the scores of a series other than independent binomials, and each has its place:

- *problems are shared*: a problem solved now is likelier to be solved later. The correlation of outcomes over
  problems, shrunk (Ledoit & Wolf, Journal of Portfolio Management 30, 2004), couples the simulated counts;
- *training noise*: a checkpoint is better or worse than its neighbours on all problems. Its variance in the
  logit is the excess of the second differences (Gasser, Sroka & Jennen-Steinmetz, Biometrika 73, 1986);
- *few counts*: half the mean leverage is added to successes and to failures (Firth, Biometrika 80, 1993), so
  that checkpoints with none or all solved stay finite.

Fits weight checkpoints as if independent (Liang & Zeger, Biometrika 73, 1986). Where a break is absent it has
no place, so no ratio of likelihoods is χ²; the distribution of the statistic is simulated instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import expit, logit, ndtr
from scipy.stats import binom, chi2

from babelscope.analyses.broken_lines import BrokenLines
from babelscope.analyses.curve_posterior import BrokenLinePosterior


@dataclass(frozen=True)
class Fit:
    """The likeliest curve with a given number of breaks."""

    eta: Float[np.ndarray, " n"]  # logit at each checkpoint
    breaks: Int[np.ndarray, " k"]  # which checkpoints
    weights: Float[np.ndarray, " n"]  # information of each checkpoint about its logit
    deviance: float


class SegmentedLogit:
    """What fits to one series share, whatever its scores.

    Parameters
    ----------
    x
        Positions of the checkpoints (log10 of the step), ascending.
    total
        Problems asked at each checkpoint.
    correlation
        Between the outcomes at two checkpoints, over problems.
    noise
        Variance of the training noise, in the logit.
    max_breaks
        Most breaks to consider; fewer where a fit would leave no residual degree of freedom.
    """

    def __init__(
        self,
        x: Float[np.ndarray, " n"],
        total: Int[np.ndarray, " n"],
        *,
        correlation: Float[np.ndarray, "n n"],
        noise: float,
        max_breaks: int,
    ):
        self.x, self.total, self.correlation, self.noise = x, total, correlation, noise
        self.lines = BrokenLines(x, max_breaks=max_breaks)
        self.max_breaks = self.lines.max_breaks

    def fit(self, solved: Float[np.ndarray, " n"], breaks: int) -> Fit:
        """The likeliest curve: the best breaks near a curve, the best curve with those breaks, and again."""
        pseudo = (2 + breaks) / len(self.x)
        share = (solved + pseudo / 2) / (self.total + pseudo)
        eta = self.empirical(solved)
        # Training noise of variance σ² makes N problems worth N / (1 + σ²·N·p(1 − p)).
        worth = self.total / (1 + self.noise * self.total * expit(eta) * expit(-eta))
        met: dict[tuple[int, ...], Fit] = {}
        while True:
            responses, weights = self._responses(eta, share[:, None]), worth * expit(eta) * expit(-eta)
            where = self.lines.search(responses, weights, [breaks])[breaks][1]
            if (places := tuple(where[0].tolist())) in met:
                return min(met.values(), key=lambda fit: fit.deviance)
            eta = self._likeliest(share, worth, where)
            mu = expit(eta)
            log_ratio = share * np.log(share / mu) + (1 - share) * np.log((1 - share) / (1 - mu))
            deviance = 2 * float(worth @ log_ratio)
            met[places] = Fit(eta, self.lines.grid[where[0]], worth * mu * (1 - mu), deviance)

    def _likeliest(
        self, share: Float[np.ndarray, " n"], worth: Float[np.ndarray, " n"], where: Int[np.ndarray, "1 k"]
    ) -> Float[np.ndarray, " n"]:
        """Fisher scoring with given breaks."""
        # Only a step gone astray leaves this: the added counts hold the likeliest curve well inside.
        eta, bound = logit(share), np.log(self.total) + 8
        for _ in range(50):
            weights = worth * expit(eta) * expit(-eta)
            new = self.lines.curves(self._responses(eta, share[:, None]), weights, where)[:, 0]
            new = new.clip(-bound, bound)
            if np.abs(new - eta).max() < 1e-7:
                break
            eta = new
        return eta

    def simulate(
        self,
        eta: Float[np.ndarray, " n"],
        draws: int,
        rng: np.random.Generator,
        *,
        noise: Float[np.ndarray, " draws"] | float | None = None,
    ) -> Float[np.ndarray, "n draws"]:
        """Counts of series that follow `eta`, with training noise and the same problems at every step.

        Margins are binomial and coupled by a Gaussian copula, so early zeros stay counts. The variance of the
        training noise may differ between draws.
        """
        n = len(eta)
        coupled = np.linalg.cholesky(self.correlation) @ rng.standard_normal((n, draws))
        shift = np.sqrt(self.noise if noise is None else noise) * rng.standard_normal((n, draws))
        return binom.ppf(ndtr(coupled), self.total[:, None], expit(eta[:, None] + shift))

    def by_problems(self, eta: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
        """Covariance that problems give the empirical logits around a curve.

        Of a count with variance v it is about v/(v + ½)². A quarter is added to v, since where nothing is
        solved the fitted v may be as near to 0 as it likes.
        """
        variance = self._variance(eta)
        spread = np.sqrt(variance + 0.25) / (variance + 0.5)
        return spread[:, None] * self.correlation * spread

    def sensitivity(self, eta: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How far empirical logits follow logits: not at all where nothing is solved, noise or no noise."""
        variance = self._variance(eta)
        return variance / (variance + 0.5)

    def _variance(self, eta: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return self.total * expit(eta) * expit(-eta)

    def empirical(self, counts: Float[np.ndarray, "n *draws"]) -> Float[np.ndarray, "n *draws"]:
        """Logits of counts, with half an answer more of each kind."""
        total = self.total.reshape(-1, *[1] * (np.ndim(counts) - 1))
        return np.log((counts + 0.5) / (total - counts + 0.5))

    def probability(self, logits: Float[np.ndarray, "n *draws"]) -> Float[np.ndarray, "n *draws"]:
        """The way back from `empirical`: without the added halves, none of N solved is a probability of 0."""
        total = self.total.reshape(-1, *[1] * (np.ndim(logits) - 1))
        return (((total + 1) * expit(logits) - 0.5) / total).clip(0, 1)

    def test(
        self,
        solved: Float[np.ndarray, " n"],
        null: Float[np.ndarray, " n"],
        lines: BrokenLinePosterior,
        *,
        breaks: int,
        noise: Float[np.ndarray, " draws"],
        rng: np.random.Generator,
    ) -> float:
        """p of a curve with so many breaks, which fits `solved`, against more, by parametric bootstrap.

        The statistic is the odds of more breaks, and each simulated series has its own variance of training
        noise. A single break more, as the alternative, would miss a peak that is followed by a plateau; and a
        gain in fit, as the statistic, is judged too large where the noise is thought too small.
        """
        simulated = self.simulate(null, len(noise), rng, noise=noise)
        odds = odds_of_more(lines, self.empirical(np.column_stack([solved, simulated])), breaks)
        return float((1 + (odds[1:] >= odds[0] - 1e-9).sum()) / (1 + len(noise)))

    @staticmethod
    def _responses(
        eta: Float[np.ndarray, " n"], share: Float[np.ndarray, "n draws"]
    ) -> Float[np.ndarray, "n draws"]:
        """Working responses: shares on the logit scale, linearised at `eta`."""
        mu = expit(eta)[:, None]
        return eta[:, None] + (share - mu) / (mu * (1 - mu))


def odds_of_more(
    lines: BrokenLinePosterior, y: Float[np.ndarray, "n draws"], breaks: int
) -> Float[np.ndarray, " draws"]:
    """Log odds of more breaks against so many."""
    by_number = np.logaddexp.reduce(lines.evidence(y), axis=0)
    return np.logaddexp.reduce(by_number[breaks + 1 :], axis=0) - by_number[breaks]


def shrunk_correlation(outcomes: Shaped[np.ndarray, "problems n"]) -> Float[np.ndarray, "n n"]:
    """Correlation between checkpoints over problems, shrunk towards one that is the same for all pairs.

    The intensity is Ledoit & Wolf's (Journal of Portfolio Management 30, 2004): the sampling variance of the
    correlations over their spread about their mean. Towards none, the simpler target, few problems would lose
    what all checkpoints share, and generalised least squares would follow chance correlations away from the
    data. A checkpoint at which no or every problem is solved is uncorrelated with all others.
    """
    problems, n = outcomes.shape
    centred = outcomes - outcomes.mean(0)
    spread = centred.std(0)
    standard = centred / np.where(spread > 0, spread, 1)
    sample = standard.T @ standard / problems
    pairs = np.outer(spread > 0, spread > 0) & ~np.eye(n, dtype=bool)
    mean = max(sample[pairs].mean(), 0.0) if pairs.any() else 0.0
    target = np.where(pairs, mean, 0.0)
    distance = ((sample - target)[pairs] ** 2).sum()
    error = ((standard**2).T @ standard**2 / problems - sample**2)[pairs].sum() / problems
    # Never quite nothing: checkpoints that agree on every problem would leave no way to simulate them.
    shrinkage = min(error / distance, 1.0) if distance > 0 else 1.0
    shrunk = (1 - shrinkage) * np.where(pairs, sample, 0.0) + shrinkage * target
    return (1 - 1 / problems) * shrunk + np.eye(n)


def training_noise(
    x: Float[np.ndarray, " n"],
    solved: Float[np.ndarray, " n"],
    total: Int[np.ndarray, " n"],
    correlation: Float[np.ndarray, "n n"],
) -> tuple[float, float]:
    """Variance, in the logit, by which checkpoints differ from their neighbours beyond their problems.

    Every checkpoint is compared with the line through its two neighbours. The weighted sum of squares of
    these differences is about χ² with the degrees of freedom that its mean and variance imply
    (Satterthwaite); the estimate makes the observed sum its median, since the usual choice, its mean, is
    too low in most short series and lets their tests find too much.

    Returns
    -------
    noise, sharing
        The variance, and by what factor shared problems reduce those squares (1 where they reduce nothing).
    """
    share = (solved + 0.5) / (total + 1)
    gaps = np.diff(x)
    before = gaps[1:] / (gaps[1:] + gaps[:-1])
    rows = np.arange(len(x) - 2)
    differences = np.zeros((len(rows), len(x)))
    differences[rows, rows], differences[rows, rows + 1], differences[rows, rows + 2] = -before, 1, before - 1
    spread = 1 / np.sqrt(total * share * (1 - share))
    by_problems = spread[:, None] * correlation * spread
    precision = 1 / np.diag(differences @ by_problems @ differences.T)
    form = differences.T @ (precision[:, None] * differences)
    observed, expected = logit(share) @ form @ logit(share), np.trace(form @ by_problems)
    per_noise = np.trace(form)
    covariance = by_problems + max(0.0, (observed - expected) / per_noise) * np.eye(len(x))
    freedom = np.trace(form @ covariance) ** 2 / np.trace(form @ covariance @ form @ covariance)
    noise = max(0.0, (observed * freedom / chi2.median(freedom) - expected) / per_noise)
    return float(noise), float(expected / np.trace(form @ np.diag(spread**2)))
