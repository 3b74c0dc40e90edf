"""Results as tidy tables: one row per step and thing, with its interval and, where there is one, its null.

What figures draw, `--json` prints and conclusions read is computed here and nowhere else.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from babelscope.analyses.sweep import Results
from babelscope.core.languages import shown
from babelscope.core.stats import bootstrap_mean, percentile_interval, resample, wilson_interval
from babelscope.interp.lape import Thresholds, firing_rate

NEURON_DRAWS = 100
NULL_LEVEL = 0.9  # of the 20 draws of a null, the inner 18


def scores(results: Results) -> pd.DataFrame:
    """Problems solved: step, language, group, solved, total, rate, low, high (Wilson).

    The group "all" holds every problem of the language.
    """
    data = results["problem_scores"]
    rows = []
    for language in pd.unique(data["language"].to_numpy()):
        groups = pd.unique(data["group"].to_numpy()[data["language"].to_numpy() == language])
        for group in dict.fromkeys(["all", *groups]):
            steps, _, solved = outcomes(data, language, group)
            total = len(solved)
            count = solved.sum(0)
            low, high = wilson_interval(count, total).T
            rows.append(
                pd.DataFrame(
                    {
                        "step": steps,
                        "language": language,
                        "group": group,
                        "solved": count,
                        "total": total,
                        "rate": count / total,
                        "low": low,
                        "high": high,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def outcomes(
    data: xr.Dataset, language: str, group: str = "all"
) -> tuple[Int[np.ndarray, " step"], list[str], Bool[np.ndarray, "problem step"]]:
    """Steps, problem ids and what was solved when, of one language and group."""
    chosen = data["language"].to_numpy() == language
    if group != "all":
        chosen &= data["group"].to_numpy() == group
    some = data.isel(problem=np.flatnonzero(chosen))
    solved = some["solved"].transpose("problem", "step").to_numpy().astype(bool)
    return some["step"].to_numpy(), some["id"].to_numpy().tolist(), solved


def losses(results: Results) -> pd.DataFrame:
    """Held-out loss: step, language, nats per token, low, high (documents resampled), bits_per_byte."""
    data = results["language_loss"]
    rows = []
    for language in pd.unique(data["language"].to_numpy()):
        nll, tokens, n_bytes = document_losses(data, language)
        interval = percentile_interval(bootstrap_mean(nll / tokens[:, None], weights=tokens))
        if len(tokens) < 2:  # one document says nothing about others
            interval = np.full_like(interval, np.nan)
        rows.append(
            pd.DataFrame(
                {
                    "step": data["step"].to_numpy(),
                    "language": language,
                    "nats": nll.sum(0) / tokens.sum(),
                    "low": interval[:, 0],
                    "high": interval[:, 1],
                    "bits_per_byte": nll.sum(0) / n_bytes.sum() / np.log(2),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def document_losses(
    data: xr.Dataset, language: str
) -> tuple[
    Float[np.ndarray, "document step"], Float[np.ndarray, " document"], Float[np.ndarray, " document"]
]:
    """Nats, tokens and bytes of each of a language's held-out documents."""
    some = data.isel(document=np.flatnonzero(data["language"].to_numpy() == language))
    nll = some["nll"].transpose("document", "step").to_numpy()
    tokens, n_bytes = (some[name].isel(step=0).to_numpy() for name in ("tokens", "bytes"))
    return nll, tokens, n_bytes


def neurons(results: Results, *, seed: int = 0) -> pd.DataFrame:
    """Language-transferring neurons: step, language, rule, count, low, high, null_low, null_high.

    Rule "paper" selects anew at each step, so that counts trade off within a fixed 1 %; rule "frozen"
    applies the first checkpoint's thresholds to all. Intervals resample blocks of documents. The null
    gives blocks to languages at random: what the same thresholds find where languages do not differ.
    """
    data = results["transferring_neurons"].stack(cell=("language", "block"), create_index=False)
    data = data.isel(
        cell=np.flatnonzero(data["tokens"].isel(step=0).to_numpy())
    )  # short text leaves some empty
    positive = data["positive"].stack(unit=("layer", "neuron")).transpose("step", "cell", "unit").to_numpy()
    tokens = data["tokens"].isel(step=0).to_numpy()
    languages = pd.unique(data["language"].to_numpy())
    spoken = data["language"].to_numpy() == languages[:, None]  # (language, cell)
    rng = np.random.default_rng(seed)
    again = np.stack([spoken * sum(_resample_within(of, rng) for of in spoken) for _ in range(NEURON_DRAWS)])
    mixed = np.stack([spoken[:, rng.permutation(spoken.shape[1])] for _ in range(NEURON_DRAWS)])

    def rates(counts: np.ndarray, belongs: np.ndarray) -> np.ndarray:
        return firing_rate(belongs.astype(int) @ counts, belongs @ tokens)

    frozen = Thresholds.of(rates(positive[0], spoken))
    rows = []
    for step, counts in zip(data["step"].to_numpy(), positive, strict=True):
        rate = rates(counts, spoken)
        resampled, null = ([rates(counts, draw) for draw in draws] for draws in (again, mixed))
        for rule, thresholds in (("paper", Thresholds.of(rate)), ("frozen", frozen)):
            number = [thresholds.members(one).sum(1) for one in (rate, *resampled, *null)]
            interval = percentile_interval(np.stack(number[1 : NEURON_DRAWS + 1]))
            null_interval = percentile_interval(np.stack(number[NEURON_DRAWS + 1 :]))
            rows.append(
                pd.DataFrame(
                    {
                        "step": step,
                        "language": languages,
                        "rule": rule,
                        "count": number[0],
                        "low": interval[:, 0],
                        "high": interval[:, 1],
                        "null_low": null_interval[:, 0],
                        "null_high": null_interval[:, 1],
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def _resample_within(chosen: Bool[np.ndarray, " cell"], rng: np.random.Generator) -> Int[np.ndarray, " cell"]:
    """How often each chosen cell is in a resample of the chosen."""
    times = np.zeros(len(chosen), dtype=int)
    times[chosen] = resample(int(chosen.sum()), draws=1, seed=rng)[0]
    return times


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
        rows = []
        for name, of in STATISTICS.items():
            low, high = percentile_interval(self.draws_[name]).T
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
