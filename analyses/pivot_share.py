"""The pivot's part in what layers decode to where the target's identifier is due, with its nulls.

Eq. 1 of arXiv 2412.07298 counts, over prompts and intermediate layers, the cells whose top token is a
language's identifier: R_i = ε_i / Σ_j ε_j. Cells that decode to anything else leave its denominator, so it is
shown with the share of all cells, the soft share and the mass, and with what each would be by chance.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from babelscope.analyses.sweep import Results
from babelscope.core.languages import shown
from babelscope.core.stats import percentile_interval, resample

NULL_LEVEL = 0.9  # of the 20 draws of a null, the inner 18


def identifier_choice(
    data: xr.Dataset, *, pivot: str, target: str
) -> tuple[Int[np.ndarray, " step"], Bool[np.ndarray, "prompt step"]]:
    """Whether the last layer prefers the target's identifier to the pivot's, prompt by prompt."""
    share = data["share"].isel(layer=-1, prompt=np.flatnonzero(data["spoken"].to_numpy() == target))
    names = data["language"].to_numpy().tolist()
    own, other = (share.isel(language=names.index(name)) for name in (target, pivot))
    known = np.flatnonzero((own + other).isel(step=0).notnull().to_numpy())
    chosen = (own > other).isel(prompt=known).transpose("prompt", "step")
    return data["step"].to_numpy(), chosen.to_numpy()


class PivotShare:
    """The pivot's part in what layers decode to, where the target's identifier is due.

    Parameters
    ----------
    results
        With the measure "working_language".
    pivot, target
        Cells are those of the target's prompts.

    Attributes
    ----------
    table_ : DataFrame
        step, statistic, estimate, low, high (concepts, then prompts resampled), and the nulls: low and
        high over random token sets, the value elsewhere in the prompts, the value on a random model;
        `outside_null` where the interval clears all three. Statistics, over cells of the intermediate layers:
        "count" (Eq. 1: pivot's / (pivot's + target's) top tokens; NaN without any), "cells" (pivot's top
        tokens / all cells), "translated" (the same, over prompts at which the model itself writes the
        target's identifier: NaN without any), "soft" (mean share), "mass" (mean probability of the pivot's
        identifiers).
    draws_ : dict of (draws, step)
        Bootstrap draws of each statistic.
    layers_ : DataFrame
        step, layer, soft, pivot_cells, target_cells: every layer, the last included.
    intermediate_ : list of int
        Layers that count.
    steps_ : (step,)
    verdict_ : str
        Whether, and when, the middle layers use the pivot's names, in one sentence.
    """

    def __init__(self, results: Results, *, pivot: str, target: str, seed: int = 0):
        data = results["working_language"]
        names = data["language"].to_numpy().tolist()
        self._p, self._t = names.index(pivot), names.index(target)
        self.pivot, self.target = pivot, target
        spoken = data["spoken"].to_numpy() == target
        # A concept that the pivot does not name apart has no share of it.
        named = data["share"].isel(language=self._p, step=0, layer=0).notnull().to_numpy()
        chosen = np.flatnonzero(spoken & named)
        data, null = data.isel(prompt=chosen), results.null("working_language").isel(prompt=chosen)
        self.intermediate_ = [int(layer) for layer in np.atleast_1d(data.attrs["intermediate"])]
        inner = data.sel(layer=self.intermediate_)
        self.steps_ = steps = data["step"].to_numpy()

        weights = resample(data.sizes["prompt"], clusters=data["concept"].to_numpy().tolist(), seed=seed)
        ones = np.ones((1, weights.shape[1]))
        written = (data["top"].isel(layer=-1) == self._t).transpose("prompt", "step").to_numpy()
        at, elsewhere, sets = (
            self._cells(inner, where) | {"written": written} for where in ("", "elsewhere_", "null_")
        )
        random = self._cells(null.sel(layer=self.intermediate_).expand_dims("step"), "")
        random["written"] = np.ones_like(random["pivot"])  # it writes nothing on purpose
        self.draws_ = {name: of(at, weights) for name, of in STATISTICS.items()}
        concepts = len(np.unique(data["concept"]))
        rows = []
        for name, of in STATISTICS.items():
            low, high = percentile_interval(self.draws_[name], clusters=concepts).T
            table = pd.DataFrame(
                {
                    "step": steps,
                    "statistic": name,
                    "estimate": of(at, ones)[0],
                    "low": low,
                    "high": high,
                    "elsewhere": of(elsewhere, ones)[0],
                    "random_model": of(random, ones)[0, 0],
                }
            )
            drawn = of(sets, ones)[:, 0]  # (draw, step)
            table["random_sets_low"], table["random_sets_high"] = percentile_interval(
                drawn, level=NULL_LEVEL
            ).T
            nulls = table[["elsewhere", "random_model", "random_sets_low", "random_sets_high"]]
            table["outside_null"] = (table["low"] > nulls.max(axis=1)) | (table["high"] < nulls.min(axis=1))
            rows.append(table)
        self.table_ = pd.concat(rows, ignore_index=True)
        self.layers_ = self._layers(data)
        self.verdict_ = self._in_words()

    def estimate(self, statistic: str) -> Float[np.ndarray, " step"]:
        """One statistic at every step."""
        return self.table_.loc[self.table_["statistic"] == statistic, "estimate"].to_numpy()

    def above_nulls(self, statistic: str) -> pd.DataFrame:
        """Rows after step 0 at which a statistic's interval lies above all three nulls."""
        table = self.table_[(self.table_["statistic"] == statistic) & (self.table_["step"] > 0)]
        highest = table[["elsewhere", "random_model", "random_sets_high"]].max(axis=1)
        return table.loc[table["low"] > highest]

    def _in_words(self) -> str:
        pivot, target = shown(self.pivot), shown(self.target)
        layers = f"layers {self.intermediate_[0]}–{self.intermediate_[-1]}"
        where = f"Where the model writes {target}'s identifiers, {layers}"
        checkpoints = int((self.steps_ > 0).sum())
        above = self.above_nulls("translated")
        if above.empty:
            return f"{where} do not decode to {pivot}'s more often than the nulls do, at any step."
        peak = above.loc[above["estimate"].idxmax()]
        return (
            f"{where} decode to {pivot}'s above all nulls at {len(above)} of {checkpoints} trained "
            f"checkpoints, most at step {peak['step']:,.0f} ({peak['estimate']:.0%} of the cells, "
            f"{peak['low']:.0%} to {peak['high']:.0%})."
        )

    def _cells(self, data: xr.Dataset, where: str) -> dict[str, Float[np.ndarray, "*draw prompt step"]]:
        """Per prompt and step, means over layers of what the statistics need."""
        top = data[f"{where}top"]
        if where == "null_":
            pivot, target = top.isel(language=self._p), top.isel(language=self._t)
        else:
            pivot, target = top == self._p, top == self._t
        share, mass = (data[f"{where}{name}"].isel(language=self._p) for name in ("share", "mass"))
        cells = {"pivot": pivot, "target": target, "soft": share, "mass": mass}
        return {
            name: v.mean("layer").transpose(..., "prompt", "step").to_numpy() for name, v in cells.items()
        }

    def _layers(self, data: xr.Dataset) -> pd.DataFrame:
        by_layer = xr.Dataset(
            {
                "soft": data["share"].isel(language=self._p, drop=True).mean("prompt"),
                "pivot_cells": (data["top"] == self._p).mean("prompt"),
                "target_cells": (data["top"] == self._t).mean("prompt"),
            }
        )
        return by_layer.drop_vars("language", errors="ignore").to_dataframe().reset_index()


Cells = dict[str, Float[np.ndarray, "*draw prompt step"]]
Weights = Float[np.ndarray, "resample prompt"]


def _mean(cells: Cells, weights: Weights, name: str) -> Float[np.ndarray, "*draw resample step"]:
    return weights @ cells[name] / weights.sum(1, keepdims=True)


def _translated(cells: Cells, weights: Weights) -> Float[np.ndarray, "*draw resample step"]:
    return _ratio(weights @ (cells["pivot"] * cells["written"]), weights @ cells["written"])


def _eq_1(cells: Cells, weights: Weights) -> Float[np.ndarray, "*draw resample step"]:
    pivot, target = weights @ cells["pivot"], weights @ cells["target"]
    return _ratio(pivot, pivot + target)


def _ratio(
    part: Float[np.ndarray, "*shape"], whole: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


STATISTICS = {
    "count": _eq_1,
    "cells": partial(_mean, name="pivot"),
    "translated": _translated,
    "soft": partial(_mean, name="soft"),
    "mass": partial(_mean, name="mass"),
}
