"""The pivot's part in what layers decode to where the target's identifier is due, with its nulls.

Eq. 1 of arXiv 2412.07298 counts, over prompts and intermediate layers, the cells whose top token is a
language's identifier: R_i = ε_i / Σ_j ε_j. Cells that decode to anything else leave its denominator, so it is
shown with the share of all cells, the soft share and the mass, and with what each would be by chance. All of
them are ratios of sums over cells, resampled by concept and then by prompt:

    count           cells of the pivot / cells of pivot or target
    cells, other    cells of the pivot, and of neither / all cells
    soft, mass      mean share of the pivot, and mean probability of its identifiers
    entropy, rank   mean, in nats, and geometric mean of the rank of the right identifier

over all prompts, as their text is given (teacher-forced), and over those after which the model itself writes
the target's identifier (emitted).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from babelscope.analyses.sweep import Results
from babelscope.core.languages import shown
from babelscope.core.stats import percentile_interval, resample
from babelscope.probes.placement import ENOUGH

NULL_LEVEL = 0.9  # of the 20 draws of a null, the inner 18
ALL, EMITTED = "all", "emitted"
ESTIMATE, ELSEWHERE, SETS, RANDOM = "", "elsewhere_", "null_", "random_model"


class Parts(NamedTuple):
    """What a statistic is the ratio of, by the names of cells; and whether those are logarithms."""

    part: str
    whole: str = "one"
    logarithmic: bool = False


STATISTICS = {
    "count": Parts("pivot", "either"),
    "cells": Parts("pivot"),
    "other": Parts("other"),
    "soft": Parts("soft"),
    "mass": Parts("mass"),
    "entropy": Parts("entropy"),
    "rank": Parts("rank", logarithmic=True),
}
Cells = dict[str, Float[np.ndarray, "*draw prompt step"]]


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
        step, statistic, prompts ("all", "emitted"), estimate, low, high, over cells of the intermediate
        layers; and the nulls: low and high over random token sets, the value elsewhere in the prompts, the
        value on a random model. `outside_null` where the 95% intervals of the differences from all nulls
        that are defined, over the same resamples, lie to one side of zero; `above_null` where that is above.
        What has no cells is NaN. Intervals are widened for the number of concepts (`percentile_interval`),
        and are NaN, so that nothing is claimed, where the prompts are of fewer than `ENOUGH.concepts`.
    draws_ : dict of (draws, step)
        Bootstrap draws of each statistic over all prompts.
    layers_ : DataFrame
        step, layer, and means over all prompts: soft, pivot_cells, target_cells, pivot_mass, target_mass,
        entropy, rank; every layer, the last included.
    intermediate_ : list of int
        Layers that count.
    steps_ : (step,)
    emitted_ : (step,)
        Prompts after which the model writes the target's identifier.
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
        inner, null = data.sel(layer=self.intermediate_), null.sel(layer=self.intermediate_)
        self.steps_ = data["step"].to_numpy()
        self._concept = np.unique(data["concept"], return_inverse=True)[1]
        weights = resample(data.sizes["prompt"], clusters=self._concept.tolist(), seed=seed)
        cells = {place: self._cells(inner, place) for place in (ESTIMATE, ELSEWHERE, SETS)}
        cells[RANDOM] = self._cells(null.expand_dims("step"), ESTIMATE)

        self.draws_, tables = {}, []
        everyone = np.ones((data.sizes["prompt"], len(self.steps_)), bool)
        asked = {ALL: everyone}
        if "top" in data:
            asked[EMITTED] = (data["top"].isel(layer=-1) == self._t).transpose("prompt", "step").to_numpy()
        self.emitted_ = asked[EMITTED].sum(0) if EMITTED in asked else np.full(len(self.steps_), np.nan)
        for prompts, mask in asked.items():
            for name, parts in STATISTICS.items():
                if parts.part in cells[ESTIMATE]:
                    table, draws = self._row(cells, parts, mask, weights)
                    tables.append(table.assign(statistic=name, prompts=prompts))
                    if prompts == ALL:
                        self.draws_[name] = draws
        self.table_ = pd.concat(tables, ignore_index=True)
        self.layers_ = self._layers(data)
        self.verdict_ = self._in_words()

    def rows(self, statistic: str, *, prompts: str = ALL) -> pd.DataFrame:
        """One statistic at every step."""
        return self.table_.query("statistic == @statistic and prompts == @prompts")

    def estimate(self, statistic: str, *, prompts: str = ALL) -> Float[np.ndarray, " step"]:
        """One statistic's estimates at every step."""
        return self.rows(statistic, prompts=prompts)["estimate"].to_numpy()

    def above_nulls(self, statistic: str, *, prompts: str = ALL) -> pd.DataFrame:
        """Rows after step 0 at which a statistic is above all its nulls."""
        return self.rows(statistic, prompts=prompts).query("step > 0 and above_null")

    def _in_words(self) -> str:
        pivot, target = shown(self.pivot), shown(self.target)
        layers = f"layers {self.intermediate_[0]}–{self.intermediate_[-1]}"
        where = f"Where the model writes {target}'s identifiers, {layers}"
        checkpoints = int((self.steps_ > 0).sum())
        above = self.above_nulls("cells", prompts=EMITTED)
        if above.empty:
            return f"{where} do not decode to {pivot}'s more often than the nulls do, at any step."
        peak = above.loc[above["estimate"].idxmax()]
        return (
            f"{where} decode to {pivot}'s above all nulls at {len(above)} of {checkpoints} trained "
            f"checkpoints, most at step {peak['step']:,.0f} ({peak['estimate']:.0%} of the cells, "
            f"{peak['low']:.0%} to {peak['high']:.0%})."
        )

    def _row(
        self,
        cells: dict[str, Cells],
        parts: Parts,
        mask: Bool[np.ndarray, "prompt step"],
        weights: Int[np.ndarray, "resample prompt"],
    ) -> tuple[pd.DataFrame, Float[np.ndarray, "resample step"]]:
        """One statistic over the prompts of `mask`, with its nulls; and its draws."""
        whole = np.ones((1, weights.shape[1]), int)
        found, draws = {}, {}
        for place, those in cells.items():
            if parts.part in those:
                # A random model writes nothing on purpose: all its prompts are taken.
                kept = np.ones_like(mask[:, :1]) if place == RANDOM else mask
                found[place] = _statistic(those, parts, kept, whole)
                draws[place] = _statistic(those, parts, kept, weights)
        low, high = self._intervals(draws[ESTIMATE], mask).T
        undefined = np.full((1, 1, len(self.steps_)), np.nan)
        sets_low, sets_high = percentile_interval(found.get(SETS, undefined)[:, 0], level=NULL_LEVEL).T
        differences = [
            self._intervals((draws[ESTIMATE] - draws[place]).reshape(-1, len(self.steps_)), mask)
            for place in draws
            if place != ESTIMATE
        ]
        above, below = _all_beyond(differences)
        table = pd.DataFrame(
            {
                "step": self.steps_,
                "estimate": found[ESTIMATE][0],
                "low": low,
                "high": high,
                "elsewhere": found[ELSEWHERE][0],
                "random_model": found[RANDOM][0, 0],
                "random_sets_low": sets_low,
                "random_sets_high": sets_high,
                "outside_null": above | below,
                "above_null": above,
            }
        )
        return table, draws[ESTIMATE]

    def _intervals(
        self, draws: Float[np.ndarray, "resample step"], mask: Bool[np.ndarray, "prompt step"]
    ) -> Float[np.ndarray, "step 2"]:
        """By the number of concepts that are left at each step; none where those are too few."""
        left = np.array([len(set(self._concept[kept])) for kept in mask.T])
        found = np.full((draws.shape[1], 2), np.nan)
        for concepts in set(left[left >= ENOUGH.concepts].tolist()):
            found[left == concepts] = percentile_interval(draws[:, left == concepts], clusters=concepts)
        return found

    def _cells(self, data: xr.Dataset, place: str) -> Cells:
        """Per prompt and step, means over layers of what the statistics need and was measured."""
        cells = {"soft": data[f"{place}share"].isel(language=self._p)}
        if "top" in data:
            top = data[f"{place}top"]
            if place == SETS:
                pivot, target = top.isel(language=self._p), top.isel(language=self._t)
            else:
                pivot, target = top == self._p, top == self._t
            cells |= {"pivot": pivot, "either": pivot | target, "other": ~(pivot | target)}
            cells["mass"] = data[f"{place}mass"].isel(language=self._p)
            cells["rank"] = xr.apply_ufunc(np.log, data[f"{place}rank"])
            if place != SETS:  # the distribution is the same whatever is looked for
                cells["entropy"] = data[f"{place}entropy"]
        found = {
            name: v.mean("layer").transpose(..., "prompt", "step").to_numpy() for name, v in cells.items()
        }
        if place == SETS:  # of ranks there is one draw
            found = {name: v if v.ndim == 3 else v[None] for name, v in found.items()}
        return found

    def _layers(self, data: xr.Dataset) -> pd.DataFrame:
        """Means over prompts, layer by layer."""
        found = {"soft": data["share"].isel(language=self._p)}
        if "top" in data:
            found |= {
                "pivot_cells": data["top"] == self._p,
                "target_cells": data["top"] == self._t,
                "pivot_mass": data["mass"].isel(language=self._p),
                "target_mass": data["mass"].isel(language=self._t),
                "entropy": data["entropy"],
                "rank": xr.apply_ufunc(np.log, data["rank"]),
            }
        means = xr.Dataset(
            {name: v.drop_vars("language", errors="ignore").mean("prompt") for name, v in found.items()}
        )
        if "rank" in means:
            means["rank"] = np.exp(means["rank"])
        return means.to_dataframe().reset_index()


def _statistic(
    cells: Cells,
    parts: Parts,
    mask: Bool[np.ndarray, "prompt #step"],
    weights: Int[np.ndarray, "resample prompt"],
) -> Float[np.ndarray, "*draw resample step"]:
    """Σ part / Σ whole over the prompts of the mask; NaN where nothing is summed."""
    part = weights @ (cells[parts.part] * mask)
    whole = weights @ (mask * cells.get(parts.whole, 1.0))
    part, whole = np.broadcast_arrays(part, whole)
    ratio = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return np.exp(ratio) if parts.logarithmic else ratio


def _all_beyond(
    differences: list[Float[np.ndarray, "step 2"]],
) -> tuple[Bool[np.ndarray, " step"], Bool[np.ndarray, " step"]]:
    """Where all differences that are defined lie above zero, and where all lie below."""
    ends = np.stack(differences)
    defined = ~np.isnan(ends[..., 0])
    sides = np.stack([ends[..., 0] > 0, ends[..., 1] < 0]) | ~defined
    above, below = np.all(sides, axis=1) & np.any(defined, axis=0)
    return above, below
