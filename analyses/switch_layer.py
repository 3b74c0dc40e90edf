"""The layer at which decoding switches from the pivot's identifiers to the target's.

With p_l and t_l the parts of the target's prompts at which layer l decodes to the pivot's and to the target's
identifier, the split of the L layers that a falling step function fits best (least squares) is

    s = argmax  s(L − s)/L · drop_s²,    drop_s = mean_{l ≤ s}(p_l − t_l) − mean_{l > s}(p_l − t_l) > 0

A split can be found in anything, so it counts only if the layers up to it decode to the pivot more often, and
if the drop is larger, than at random earlier positions, for random token sets and on a random model. Then

    s = 0         no layer decodes to the pivot beyond its nulls
    0 < s < L     layers 1 to s decode to the pivot, later ones to the target
    s = L         the pivot is decoded and never left: no drop beyond the nulls, or it still leads after

Every bootstrap resample (concepts, then prompts; nulls resampled alike) goes through all of this. The
interval is that of its s, and a switch is resolved only where the interval holds neither 0 nor L. Unlike a
mean's, it is not widened for few concepts: on planted models it holds the true layer more often than it says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from babelscope.analyses.pivot_share import NULL_LEVEL, asked_prompts
from babelscope.analyses.sweep import Results
from babelscope.core.languages import shown
from babelscope.core.stats import percentile_interval, resample

SWITCH, NEVER, ALWAYS, UNRESOLVED = "switch", "never the pivot", "never leaves the pivot", "not resolvable"


class SwitchLayer:
    """The last layer that decodes to the pivot's identifier where the target's is due.

    Parameters
    ----------
    results
        With the measure "working_language".
    pivot, target
        Prompts are the target's.
    seed
        Of the bootstrap.

    Attributes
    ----------
    table_ : DataFrame
        step, finding ("switch", "never the pivot", "never leaves the pivot", "not resolvable"), layer (0 for
        never, the number of layers for never left, NaN if not resolvable), low, high (95 %), pivot (part of
        the cells up to that layer that decode to the pivot), pivot_null (the most that a null gives), drop,
        drop_null, resolved, reason (why not resolvable; empty otherwise).
    draws_ : (draws, step)
        Layer in every resample.
    n_layers_ : int
    verdict_ : str
        Where, and at how many checkpoints, in one sentence.
    """

    def __init__(self, results: Results, *, pivot: str, target: str, seed: int = 0):
        data = results["working_language"]
        self.pivot, self.target = pivot, target
        names = data["language"].to_numpy().tolist()
        p, t = names.index(pivot), names.index(target)
        chosen = asked_prompts(data, pivot=pivot, target=target)
        data, random = data.isel(prompt=chosen), results.null("working_language").isel(prompt=chosen)
        self.n_layers_ = data.sizes["layer"]

        weights = resample(len(chosen), clusters=data["concept"].to_numpy().tolist(), seed=seed)
        weights = np.concatenate([np.ones((1, len(chosen))), weights])  # first what was measured
        weights = weights / weights.sum(1, keepdims=True)
        on_random = _profile(random, weights, p, t)
        self.draws_ = np.empty((len(weights) - 1, data.sizes["step"]), int)
        rows = []
        for number, step in enumerate(data["step"].to_numpy()):
            at = data.isel(step=number)
            elsewhere = _profile(at, weights, p, t, where="elsewhere_")
            found = _switch(
                _profile(at, weights, p, t),
                [elsewhere, on_random],
                _profile(at, weights, p, t, where="null_"),
            )
            self.draws_[:, number] = found.layer[1:]
            rows.append({"step": step, **self._row(found)})
        self.table_ = pd.DataFrame(rows)
        self.verdict_ = self._in_words()

    def _row(self, found: _Found) -> dict[str, object]:
        low, high = (int(end) for end in percentile_interval(found.layer[1:]))
        layer, pivot = int(found.layer[0]), shown(self.pivot)
        whys = {
            0: f"no layer decodes to {pivot}'s beyond the nulls",
            self.n_layers_: f"{pivot}'s are not left beyond the nulls",
        }
        told = {low, layer, high}
        whys = [why for end, why in whys.items() if end in told]
        finding = UNRESOLVED if whys else SWITCH
        if len(told) == 1:
            finding = {0: NEVER, self.n_layers_: ALWAYS}.get(layer, SWITCH)
        return {
            "finding": finding,
            "layer": np.nan if finding == UNRESOLVED else layer,
            "low": low,
            "high": high,
            "pivot": found.pivot[0],
            "pivot_null": found.pivot_null[0],
            "drop": found.drop[0],
            "drop_null": found.drop_null[0],
            "resolved": finding == SWITCH,
            "reason": f"in some resamples {' and in others '.join(whys)}" if finding == UNRESOLVED else "",
        }

    def _in_words(self) -> str:
        pivot, target = shown(self.pivot), shown(self.target)
        trained = self.table_.loc[self.table_["step"] > 0]
        resolved = trained.loc[trained["resolved"].to_numpy(bool)]
        if resolved.empty:
            counts = Counter(trained["finding"])
            told = ", ".join(f"{finding} at {number}" for finding, number in counts.items())
            return (
                f"No trained checkpoint resolves a layer at which decoding switches from {pivot}'s "
                f"identifiers to {target}'s ({told or 'none was measured'})."
            )
        last = resolved.iloc[-1]
        first, final = (float(end) for end in resolved["layer"].agg(["min", "max"]))
        span = f"always layer {first:.0f}" if first == final else f"from layer {first:.0f} to {final:.0f}"
        return (
            f"At step {last['step']:,.0f} layers up to {last['layer']:.0f} of {self.n_layers_} "
            f"({last['low']} to {last['high']}) decode to {pivot}'s identifiers where {target}'s are due in "
            f"{last['pivot']:.0%} of the cells (nulls: at most {last['pivot_null']:.0%}), and later ones "
            f"rather to {target}'s; that layer is resolved at {len(resolved)} of {len(trained)} trained "
            f"checkpoints, {span}."
        )


@dataclass(frozen=True)
class _Profile:
    """Parts of the prompts that decode to the pivot's and to the target's identifier, by resample."""

    pivot: Float[np.ndarray, "*shape layer"]
    target: Float[np.ndarray, "*shape layer"]


@dataclass(frozen=True)
class _Found:
    """By resample: the layer, and the rates that decide whether it counts."""

    layer: Int[np.ndarray, " resample"]
    pivot: Float[np.ndarray, " resample"]
    pivot_null: Float[np.ndarray, " resample"]
    drop: Float[np.ndarray, " resample"]
    drop_null: Float[np.ndarray, " resample"]


def _profile(
    data: xr.Dataset, weights: Float[np.ndarray, "resample prompt"], p: int, t: int, *, where: str = ""
) -> _Profile:
    top = data[f"{where}top"]
    if where == "null_":  # has random sets of its own
        cells = [top.isel(language=which) for which in (p, t)]
    else:
        cells = [top == which for which in (p, t)]
    return _Profile(
        *(
            np.tensordot(weights, each.transpose("prompt", ..., "layer").to_numpy().astype(float), 1)
            for each in cells
        )
    )


def _best_split(
    profile: _Profile,
) -> tuple[Int[np.ndarray, "*shape"], Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Layers before the split, the drop, and the lead of the pivot after it; a drop of 0 where none falls."""
    lead = profile.pivot - profile.target
    n = lead.shape[-1]
    before = np.arange(1, n)
    sums = lead.cumsum(-1)
    after = (sums[..., -1:] - sums[..., :-1]) / (n - before)
    drop = (sums[..., :-1] / before - after).clip(min=0)
    best = (before * (n - before) * drop**2).argmax(-1)
    drop, after = (np.take_along_axis(each, best[..., None], -1)[..., 0] for each in (drop, after))
    return best + 1, drop, after


def _switch(profile: _Profile, nulls: list[_Profile], random_sets: _Profile) -> _Found:
    n = profile.pivot.shape[-1]
    split, drop, after = _best_split(profile)
    drop_null = _highest([_best_split(null)[1] for null in nulls], _best_split(random_sets)[1])
    layer = np.where((drop > drop_null) & (after <= 0), split, n)

    def until_layer(rate: Float[np.ndarray, "resample *draw layer"]) -> Float[np.ndarray, "resample *draw"]:
        until = layer.reshape(-1, *[1] * (rate.ndim - 1))
        return np.take_along_axis(rate.cumsum(-1), until - 1, -1)[..., 0] / until[..., 0]

    pivot = until_layer(profile.pivot)
    pivot_null = _highest([until_layer(null.pivot) for null in nulls], until_layer(random_sets.pivot))
    return _Found(np.where(pivot > pivot_null, layer, 0), pivot, pivot_null, drop, drop_null)


def _highest(
    nulls: list[Float[np.ndarray, " resample"]], random_sets: Float[np.ndarray, "resample draw"]
) -> Float[np.ndarray, " resample"]:
    return np.max([*nulls, percentile_interval(random_sets.T, level=NULL_LEVEL)[:, 1]], axis=0)
