"""Whether the pivot−target direction of a layer decides which identifier the model chooses, with its null.

Per target prompt, layer and intervention (`interp.direction_effect`), changes of

    effect      the log-odds of pivot against target at the output
    direct      the part that reaches the output along the residual stream, whatever the later blocks do
    mediated    effect − direct: what the later blocks make of the change
    right       the probability of the right identifier
    flipped     the choice between pivot and target: 1 where it changes

Each has the same change along random directions as its null. `effect` leaves its null wherever the layer
holds the direction at all, since the residual stream carries it to the output; only `mediated` says that the
later blocks read it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Int

from babelscope.analyses.pivot_share import NULL_LEVEL
from babelscope.analyses.sweep import Results
from babelscope.core.languages import shown
from babelscope.core.stats import percentile_interval, resample

STATISTICS: dict[str, Callable[[xr.Dataset], xr.DataArray]] = {
    "effect": lambda found: found["after"] - found["before"],
    "direct": lambda found: found["direct"] - found["before"],
    "mediated": lambda found: found["after"] - found["direct"],
    "right": lambda found: found["right_after"] - found["right_before"],
    "flipped": lambda found: ((found["after"] > 0) != (found["before"] > 0)).astype(float),
}
CHANGED = ("after", "direct", "right_after")
DONE = {"patch": "Setting {direction} as in {pivot} code", "ablate": "Removing {direction}"}


class DirectionEffects:
    """What ablating or patching the pivot−target direction of one layer does to the identifier chosen.

    Parameters
    ----------
    results
        With the measure "direction_effect".
    pivot, target
        Prompts are the target's.

    Attributes
    ----------
    table_ : DataFrame
        statistic, step, intervention, layer, estimate, low, high (means over prompts; concepts, then prompts
        resampled, intervals widened for the number of concepts as in `percentile_interval`), null_low,
        null_high (90% band of the means along random directions) and `outside_null` where the interval
        clears that band.
    intermediate_ : DataFrame
        The same, without layer, for means over the intermediate layers, each changed alone.
    before_ : DataFrame
        step, log_odds, right, pivot: means over prompts before any change; `pivot` is the share of them at
        which the model prefers the pivot's identifier.
    layers_ : list of int
        Intermediate layers.
    verdict_ : str
        Whether the intermediate layers' direction, set as in pivot code, moves the choice, and whether later
        blocks read it, in one sentence.
    ablated_, ceiling_ : str
        The same of removing it; and what the last layer, which moves the output by construction, does.
    """

    def __init__(self, results: Results, *, pivot: str, target: str, seed: int = 0):
        data = results["direction_effect"]
        self.pivot, self.target = pivot, target
        self.layers_ = [int(layer) for layer in np.atleast_1d(data.attrs["intermediate"])]
        concepts = data["concept"].to_numpy().tolist()
        weights, clusters = resample(len(concepts), clusters=concepts, seed=seed), len(set(concepts))
        found, null = _statistics(data), _statistics(_random(data))
        self.table_ = _table(found, null, weights, clusters=clusters)
        found, null = (values.sel(layer=self.layers_).mean("layer") for values in (found, null))
        self.intermediate_ = _table(found, null, weights, clusters=clusters)
        self.before_ = pd.DataFrame(
            {
                "step": data["step"].to_numpy(),
                "log_odds": data["before"].mean("prompt").to_numpy(),
                "right": data["right_before"].mean("prompt").to_numpy(),
                "pivot": (data["before"] > 0).mean("prompt").to_numpy(),
            }
        )
        self.verdict_, self.ablated_ = self._in_words("patch"), self._in_words("ablate")
        self.ceiling_ = self._ceiling()

    def trained(self, statistic: str, *, intervention: str) -> pd.DataFrame:
        """Means over the intermediate layers at every step but 0."""
        step, kind, done = (
            self.intermediate_[name].to_numpy() for name in ("step", "statistic", "intervention")
        )
        chosen = np.flatnonzero((step > 0) & (kind == statistic) & (done == intervention))
        return self.intermediate_.iloc[chosen].reset_index(drop=True)

    def _in_words(self, intervention: str) -> str:
        pivot, target = shown(self.pivot), shown(self.target)
        direction = f"the {pivot}−{target} direction of one of layers {self.layers_[0]}–{self.layers_[-1]}"
        done = DONE[intervention].format(direction=direction, pivot=pivot)
        tables = [self.trained(name, intervention=intervention) for name in ("effect", "mediated", "flipped")]
        effect, mediated, flipped = tables
        outside, read = (table["outside_null"].to_numpy(bool) for table in (effect, mediated))
        subject = f"{done}, where {target}'s identifier is due,"
        if not outside.any():
            return (
                f"{subject} does not move the log-odds beyond random directions at any of"
                f" {len(effect)} trained checkpoints."
            )
        at = effect.loc[outside, "estimate"].abs().idxmax()
        return (
            f"{subject} moves the log-odds of {pivot} against {target} beyond random directions at"
            f" {outside.sum()} of {len(effect)} trained checkpoints, most at step {effect['step'][at]:,}:"
            f" {_signed(effect.loc[at])}, with {flipped['estimate'][at]:.0%} of the choices flipped."
            f" The later blocks' own part of that is {_signed(mediated.loc[at])}; it is outside its null"
            f" at {read.sum() or 'none'} of the {len(effect)}."
        )

    def _ceiling(self) -> str:
        """What the last layer does at the last step."""
        cells = self.table_.set_index(["statistic", "intervention", "step", "layer"])
        last = self.table_["step"].max(), self.table_["layer"].max()
        effect, flipped = (cells.loc[name, "patch", *last] for name in ("effect", "flipped"))
        return (
            f"At the last layer the same change moves the output by construction: {_signed(effect)} at step"
            f" {last[0]:,}, with {flipped['estimate']:.0%} of the choices flipped."
        )


def _signed(row: pd.Series) -> str:
    return f"{row['estimate']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"


def _random(data: xr.Dataset) -> xr.Dataset:
    """The changes along random directions, under the names of those along the direction itself."""
    return data.drop_vars(CHANGED).rename({f"null_{name}": name for name in CHANGED})


def _statistics(data: xr.Dataset) -> xr.Dataset:
    return xr.Dataset({name: of(data) for name, of in STATISTICS.items()})


def _table(
    found: xr.Dataset, null: xr.Dataset, weights: Int[np.ndarray, "resample prompt"], *, clusters: int
) -> pd.DataFrame:
    """Means over prompts with intervals and null band, a row per cell and statistic."""
    tables = {name: _rows(found[name], null[name], weights, clusters=clusters) for name in STATISTICS}
    return pd.concat(tables, names=["statistic", "row"]).reset_index("statistic").reset_index(drop=True)


def _rows(
    found: xr.DataArray, null: xr.DataArray, weights: Int[np.ndarray, "resample prompt"], *, clusters: int
) -> pd.DataFrame:
    values = found.transpose("prompt", ...)
    flat = values.to_numpy().reshape(values.sizes["prompt"], -1)
    low, high = percentile_interval(weights @ flat / weights.sum(1, keepdims=True), clusters=clusters).T
    drawn = null.mean("prompt").transpose("draw", *values.dims[1:]).to_numpy()
    null_low, null_high = percentile_interval(drawn.reshape(len(drawn), -1), level=NULL_LEVEL).T
    table = values.mean("prompt").to_series().rename("estimate").reset_index()
    table = table.assign(low=low, high=high, null_low=null_low, null_high=null_high)
    return table.assign(outside_null=(low > null_high) | (high < null_low))
