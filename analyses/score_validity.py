"""Whether a score of neurons knows what ablating them does: rank correlation with exact ablation.

    ρ = Spearman(score, exact) over the sampled neurons of `interp.single_ablation`

A method says itself what it predicts (`neuron_scores.Method.predicts`):

    loss          the change of the language's loss
    size          its absolute value: how much the neuron matters, not which way
    specificity   the change of the own loss − mean change of the others', by the score's contrast
    choice        the change of the log-odds away from the language, where the target's identifier is due

Intervals resample neurons within strata, the way they were drawn. Below `ENOUGH` a method is unsupported on
this checkpoint: its ranking of neurons is then its own affair. What noise of the text leaves in the exact
values lowers ρ, too, so that this errs against the method.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int
from scipy.stats import rankdata

from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.stats import percentile_interval
from babelscope.interp.neuron_scores import METHODS, contrast, scores

ENOUGH = 0.5
DRAWS = 1000
# Those that score the neurons of the MLP, which is what is ablated.
JUDGED = (
    "transferring_neurons",
    "plnd_ffn",
    "gradient_attribution",
    "identifier_attribution",
    "direct_effect",
)


class ScoreValidity:
    """Rank correlation of each method's score with exact zero ablation of single neurons.

    Parameters
    ----------
    results
        With "single_ablation", or "single_ablation_choice" for methods that predict the choice, and the
        measures of the methods; those that are not there are left out.
    target
        For methods that predict the choice: the log-odds between two languages change by one number, which
        is shown for the target.

    Attributes
    ----------
    table_ : DataFrame
        method, step, language, predicts, neurons, rho, low, high, `finding`: "supported" from 0.5 up,
        "unsupported" below, "not resolvable" where score or change is the same for all neurons.
    verdict_ : list of str
        A sentence per method, of the last checkpoint.

    Raises
    ------
    InputError
        If there is no method to judge, or no ablation to judge it by.
    """

    def __init__(self, results: Mapping[str, xr.Dataset], *, target: str, seed: int = 0):
        rows = [
            {"method": method, **row}
            for method in JUDGED
            if method in results and _judge(method) in results
            for row in _rows(results, method, target=target, seed=seed)
        ]
        if not rows:
            raise InputError(
                "no score to judge, or nothing to judge it by; measure single_ablation (and "
                f"single_ablation_choice) with one of {', '.join(JUDGED)}"
            )
        self.table_ = pd.DataFrame(rows)
        self.verdict_ = [
            _in_words(method, self._last(method)) for method in dict.fromkeys(self.table_["method"])
        ]

    def unsupported(self, method: str) -> bool:
        """Whether the method is below 0.5, or not resolvable, in some language at the last checkpoint."""
        return bool((self._last(method)["finding"] != "supported").any())

    def _last(self, method: str) -> pd.DataFrame:
        of, step = self.table_["method"].to_numpy(), self.table_["step"].to_numpy()
        return self.table_.iloc[np.flatnonzero((of == method) & (step == step[of == method].max()))]


def _judge(method: str) -> str:
    return "single_ablation_choice" if METHODS[method].predicts == "choice" else "single_ablation"


def _rows(
    results: Mapping[str, xr.Dataset], method: str, *, target: str, seed: int
) -> Iterator[dict[str, object]]:
    """One for every step and language that the method says something about."""
    predicts, found, exact = (
        METHODS[method].predicts,
        scores(results[method], method),
        results[_judge(method)],
    )
    if predicts == "specificity":
        found = contrast(found)
    changes = _changes(exact, predicts, target=target)
    for step in np.intersect1d(found["step"], changes["step"]):
        drawn = exact.sel(step=step)
        layer, neuron, stratum = (drawn[name].to_numpy() for name in ("layer", "neuron", "stratum"))
        weights = _resampled(stratum, seed=seed)
        for language in changes["language"].to_numpy():
            score = found.sel(step=step, language=language).to_numpy()[layer, neuron]
            change = changes.sel(step=step, language=language).to_numpy()
            rho = spearman(score[None], change[None])[0]
            low, high = percentile_interval(spearman(score[weights], change[weights]))
            finding = "supported" if rho >= ENOUGH else "unsupported"
            yield {
                "step": int(step),
                "language": str(language),
                "predicts": predicts,
                "neurons": len(score),
                "rho": rho,
                "low": low,
                "high": high,
                "finding": "not resolvable" if np.isnan(rho) else finding,
            }


def _changes(exact: xr.Dataset, predicts: str, *, target: str) -> xr.DataArray:
    """What is predicted: (step, language, sampled)."""
    if predicts == "choice":  # zeroing what speaks for the target moves the log-odds toward the pivot
        change = exact["change"].mean("prompt").expand_dims(language=[target])
    else:
        change = exact["change"].sum("block") / exact["tokens"].sum("block")
    if predicts == "size":
        change = abs(change)
    if predicts == "specificity":
        change = change - (change.sum("language") - change) / (change.sizes["language"] - 1)
    return change.transpose("step", "language", "sampled")


def spearman(
    first: Float[np.ndarray, "draw neuron"], second: Float[np.ndarray, "draw neuron"]
) -> Float[np.ndarray, " draw"]:
    """Correlation of ranks, ties sharing theirs, row by row; NaN where all are the same."""
    ranks = [rankdata(of, axis=1) for of in (first, second)]
    one, other = (of - of.mean(1, keepdims=True) for of in ranks)
    spread = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return np.divide((one * other).sum(1), spread, out=np.full(len(one), np.nan), where=spread > 0)


def _resampled(stratum: Int[np.ndarray, " neuron"], *, seed: int) -> Int[np.ndarray, "draw neuron"]:
    """Which neuron stands in whose place, drawn from its own stratum."""
    rng = np.random.default_rng(seed)
    found = np.empty((DRAWS, len(stratum)), int)
    for one in np.unique(stratum):
        members = np.flatnonzero(stratum == one)
        found[:, members] = rng.choice(members, (DRAWS, len(members)))
    return found


def _in_words(method: str, last: pd.DataFrame) -> str:
    parts = "; ".join(_part(row) for row in last.to_dict("records"))
    return f"{METHODS[method].label} (step {last['step'].iloc[0]:,}): {parts}."


def _part(row: Mapping[Hashable, Any]) -> str:
    if row["finding"] == "not resolvable":
        return f"not resolvable for {shown(str(row['language']))}, where all neurons are alike"
    low, rho, high = (_short(float(row[name])) for name in ("low", "rho", "high"))
    straddles = float(row["low"]) < ENOUGH <= float(row["high"])
    doubt = f", an interval that holds {_short(ENOUGH)}" if straddles else ""
    here = " here" if row["finding"] == "unsupported" else ""
    return f"{row['finding']}{here} for {shown(str(row['language']))} (ρ = {rho}, {low} to {high}{doubt})"


def _short(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)
