"""Whether a language's neurons stay the same ones from checkpoint to checkpoint.

    Jaccard   |A ∩ B| / |A ∪ B| of the sets of two checkpoints; Wilson's interval over the union's neurons
    rank      Spearman correlation of all neurons' scores; Bonett & Wright's interval (Psychometrika 65, 2000)

Chance is what neurons permuted within their layers would give: for sets the exact distribution of the
overlap (`chance_overlap`), for ranks the mean and variance of a correlation under permutation.

Two checkpoints are measured on the same text and share what is peculiar to it. So identity is also taken
*across halves* of the text, one checkpoint's set from one half and the other's from the other, and
compared with the *ceiling*, where both are of one checkpoint: identity cannot be seen better than sets are
measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from scipy.stats import norm, rankdata

from babelscope.analyses.chance_overlap import Chance
from babelscope.core.stats import LEVEL, wilson_interval

BEFORE, FIRST, LAST = "before", "first", "last"  # the checkpoint that one is compared with
Z = float(norm.ppf((1 + LEVEL) / 2))

Set = Bool[np.ndarray, "layer neuron"]
Scores = Float[np.ndarray, "layer neuron"]


def identity(members: xr.DataArray, scores: xr.DataArray, halves: xr.DataArray | None) -> pd.DataFrame:
    """Every checkpoint against the one before, the first and the last; as `NeuronLife.identity_` says.

    Parameters
    ----------
    members, scores
        (step, language, layer, neuron).
    halves
        (half, step, language, layer, neuron), or None.
    """
    steps = members["step"].to_numpy()
    rows = []
    for number, language in enumerate(members["language"].to_numpy().tolist()):
        sets, values = (data.to_numpy()[:, number] for data in (members, scores))
        parts = None if halves is None else halves.to_numpy()[:, :, number]
        for compared, at, other in _pairs(len(steps)):
            row = {"step": steps[at], "language": language, "compared": compared, "other": steps[other]}
            row |= _jaccard(sets[other], sets[at])
            row |= _across_halves(parts, other, at) | _rank(values[other], values[at])
            rows.append(row)
    return pd.DataFrame(rows)


def _pairs(checkpoints: int) -> Iterator[tuple[str, int, int]]:
    yield from ((BEFORE, at, at - 1) for at in range(1, checkpoints))
    yield from ((FIRST, at, 0) for at in range(1, checkpoints))
    yield from ((LAST, at, checkpoints - 1) for at in range(checkpoints - 1))


def _jaccard(first: Set, second: Set) -> dict[str, float | bool]:
    sizes = first.sum(-1), second.sum(-1)
    total = int(sizes[0].sum() + sizes[1].sum())
    shared = int((first & second).sum())
    found: dict[str, float | bool] = {"shared": shared, "union": total - shared}
    names = ("jaccard", "low", "high", "chance", "chance_low", "chance_high")
    if not (sizes[0].any() and sizes[1].any()):
        return found | dict.fromkeys(names, np.nan) | {"outside_null": False}
    chance = Chance.of(np.full(len(first), first.shape[1]), *sizes)
    low, high = chance.interval()
    values = (
        shared / (total - shared),
        *wilson_interval(shared, total - shared),
        float(chance.probability @ (chance.counts / (total - chance.counts))),
        low / (total - low),
        high / (total - high),
    )
    return found | dict(zip(names, values, strict=True)) | {"outside_null": not low <= shared <= high}


def _across_halves(
    halves: Bool[np.ndarray, "half step layer neuron"] | None, a: int, b: int
) -> dict[str, float]:
    """Jaccard between halves, across checkpoints and within them; `lost` is what the former lacks.

    Its interval is Newcombe's for the difference of two shares (Statistics in Medicine 17, 1998).
    """
    names = ("across", "across_low", "across_high", "ceiling", "lost", "lost_low", "lost_high")
    if halves is None or not halves[:, [a, b]].any((-2, -1)).all():
        return dict.fromkeys(names, np.nan)
    one, two = halves
    shares = []
    for pairs in (((one[a], two[b]), (two[a], one[b])), ((one[a], two[a]), (one[b], two[b]))):
        # Means of two: both pairs are about the same neurons and must not count as twice as many.
        shared, union = np.mean([[(x & y).sum(), (x | y).sum()] for x, y in pairs], axis=0)
        shares.append((shared / union, *wilson_interval(shared, union)))
    (across, across_low, across_high), (ceiling, low, high) = shares
    lost = ceiling - across
    below, above = (
        np.hypot(ceiling - low, across_high - across),
        np.hypot(high - ceiling, across - across_low),
    )
    values = (across, across_low, across_high, ceiling, lost, lost - below, lost + above)
    return dict(zip(names, values, strict=True))


def _rank(first: Scores, second: Scores) -> dict[str, float]:
    """Spearman correlation over the neurons that have both scores, and under permutation within layers."""
    names = ("rank", "rank_low", "rank_high", "rank_chance", "rank_chance_low", "rank_chance_high")
    known = np.isfinite(first) & np.isfinite(second)
    n = known.sum()
    layer = np.nonzero(known)[0]
    x, y = (_standardised(rankdata(values[known])) for values in (first, second))
    if n < 4 or not (x.any() and y.any()):
        return dict.fromkeys(names, np.nan)
    rho = float(np.clip(x @ y, -1, 1))
    half = Z * np.sqrt((1 + rho**2 / 2) / (n - 3))
    z = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    size = np.bincount(layer)
    means, squares = zip(
        *((_per(layer, v) / np.maximum(size, 1), _per(layer, v**2)) for v in (x, y)), strict=True
    )
    chance = float((size * means[0] * means[1]).sum())
    within = [square - size * mean**2 for square, mean in zip(squares, means, strict=True)]
    spread = Z * np.sqrt((within[0] * within[1] / np.maximum(size - 1, 1)).sum())
    values = (rho, np.tanh(z - half), np.tanh(z + half), chance, chance - spread, chance + spread)
    return dict(zip(names, values, strict=True))


def _standardised(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Mean 0 and sum of squares 1; zeros where all are the same."""
    values = values - values.mean() if len(values) else values
    norm_ = np.linalg.norm(values)
    return values / norm_ if norm_ else values


def _per(layer: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(layer, weights=values)
