"""Intervals and the bootstrap, once for every room.

A share of n yes/no answers gets Wilson's interval (JASA 22, 1927), which stays inside [0, 1] and is not empty
at 0 of n. Everything else gets percentiles of bootstrap draws, resampled the way the data were gathered:
concepts and then the prompts of each, documents, problems. Whatever is compared is resampled together.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from babelscope.core.errors import InputError

LEVEL = 0.95  # of every interval, unless the caller was told otherwise


@dataclass(frozen=True)
class Contrast:
    """A difference with its interval."""

    estimate: float
    low: float
    high: float

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def wilson_interval(
    solved: Shaped[np.ndarray, "*shape"] | int,
    total: Shaped[np.ndarray, "*shape"] | int,
    *,
    level: float = LEVEL,
) -> Float[np.ndarray, "*shape 2"]:
    """Score interval of solved / total; NaN where the total is 0, since nothing was asked.

    Raises
    ------
    InputError
        If there are more solved than asked, or a negative count.
    """
    solved, total = np.broadcast_arrays(np.asarray(solved, float), np.asarray(total, float))
    if ((solved < 0) | (solved > total)).any():
        worst = np.argmax(((solved < 0) | (solved > total)).ravel())
        raise InputError(
            f"{solved.ravel()[worst]:g} solved of {total.ravel()[worst]:g}; give 0 ≤ solved ≤ total"
        )
    z = norm.ppf((1 + level) / 2)
    asked = np.where(total > 0, total, np.nan)
    share = solved / asked
    centre = share + z**2 / (2 * asked)
    half = z * np.sqrt(share * (1 - share) / asked + z**2 / (4 * asked**2))
    interval = np.stack([centre - half, centre + half], axis=-1) / (1 + z**2 / asked)[..., None]
    return interval.clip(0, 1)  # rounding alone leaves [0, 1]


def percentile_interval(
    draws: Shaped[np.ndarray, "draws *shape"], *, level: float = LEVEL, clusters: int | None = None
) -> Float[np.ndarray, "*shape 2"]:
    """Central interval of bootstrap draws, which are along the first axis.

    Draws of few clusters spread too little: by √((n − 1)/n), and as a normal variable where a mean of n
    follows Student's t. With `clusters`, how many were resampled, the tail is that of the expanded percentile
    interval (Hesterberg, The American Statistician 69, 2015), Φ(−√(n/(n − 1))·t), and NaN for one cluster.

    Its ends are draws themselves, not interpolated: a checkpoint's step stays a checkpoint's step, and
    infinite draws do no harm. Undefined (NaN) draws are left out; NaN where all are.
    """
    ordered = np.sort(np.asarray(draws, float), axis=0)  # NaN last
    defined = (~np.isnan(ordered)).sum(0)
    tail = (1 - level) / 2
    if clusters is not None:
        if clusters < 2:
            return np.full((*ordered.shape[1:], 2), np.nan)
        tail = norm.cdf((clusters / (clusters - 1)) ** 0.5 * student.ppf(tail, clusters - 1))
    below = np.floor(np.round(tail * defined, 9))  # 0.05 of 20 draws is one, not 0.9999…
    ranks = np.stack([below, defined - 1 - below]).astype(int)
    ends = np.take_along_axis(ordered, ranks.clip(0, len(ordered) - 1), axis=0)
    return np.moveaxis(ends, 0, -1)


def resample(
    members: int,
    *,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Int[np.ndarray, "draws members"]:
    """How often each member is in each bootstrap resample.

    With `clusters`, one label per member, clusters are drawn first and then as many members within each drawn
    cluster as it has (Davison & Hinkley, Bootstrap Methods, 1997, section 3.8). Any mean, ratio or per-step
    score of a resample is a product with this matrix, so series that share it are resampled together.

    Raises
    ------
    InputError
        If there is nothing to resample, or not one label per member.
    """
    if members < 1:
        raise InputError("there is nothing to resample: give at least one value")
    rng = np.random.default_rng(seed)
    if clusters is None:
        return rng.multinomial(members, np.full(members, 1 / members), size=draws)
    if len(clusters) != members:
        raise InputError(f"{len(clusters)} cluster labels for {members} values; give one label per value")
    labels = {label: number for number, label in enumerate(dict.fromkeys(clusters))}
    cluster = np.array([labels[label] for label in clusters])
    sizes = np.bincount(cluster)
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    counts = np.empty((draws, members), int)
    for number, size in enumerate(sizes):
        counts[:, cluster == number] = rng.multinomial(drawn[:, number] * size, np.full(size, 1 / size))
    return counts


def bootstrap_mean(
    values: Float[np.ndarray, "members *shape"],
    *,
    clusters: Sequence[Hashable] | None = None,
    weights: Float[np.ndarray, " members"] | None = None,
    draws: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Float[np.ndarray, "draws *shape"]:
    """Bootstrap draws of Σ w·v / Σ w over members.

    With weights this is a ratio of sums: loss per token, of documents (values) with their tokens (weights).
    A resample without any weight gives NaN.
    """
    values = np.asarray(values, float)
    counts = resample(len(values), clusters=clusters, draws=draws, seed=seed).astype(float)
    if weights is not None:
        counts *= np.asarray(weights, float)
    total = counts.sum(1)
    means = counts @ values.reshape(len(values), -1) / np.where(total > 0, total, np.nan)[:, None]
    return means.reshape(draws, *values.shape[1:])


def paired_difference(
    first: Float[np.ndarray, " members"],
    second: Float[np.ndarray, " members"],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    draws: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Contrast:
    """mean(first) − mean(second), where both are about the same members in the same order.

    Raises
    ------
    InputError
        If the two do not have the same length.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise InputError(
            f"{len(first)} and {len(second)} values cannot be paired; give both for the same members"
        )
    change = first - second
    low, high = percentile_interval(
        bootstrap_mean(change, clusters=clusters, draws=draws, seed=seed), level=level
    )
    return Contrast(float(change.mean()), float(low), float(high))


@dataclass(frozen=True)
class McNemar:
    """Two sets of yes/no answers to the same questions.

    Attributes
    ----------
    lost, gained
        Questions answered by the first alone, and by the second alone.
    p
        Of the exact two-sided test that both are as likely (McNemar, Psychometrika 12, 1947); 1 where no
        answer differs.
    """

    lost: int
    gained: int
    p: float


def mcnemar(first: Bool[np.ndarray, " members"], second: Bool[np.ndarray, " members"]) -> McNemar:
    """Compare answers to the same questions, in the same order.

    Raises
    ------
    InputError
        If the two do not have the same length.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape:
        raise InputError(
            f"{len(first)} and {len(second)} answers cannot be paired; give both for the same questions"
        )
    lost, gained = int((first & ~second).sum()), int((second & ~first).sum())
    p = float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
    return McNemar(lost, gained, p)
