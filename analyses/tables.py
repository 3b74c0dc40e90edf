"""Results as tidy tables: one row per step and thing, with its interval and, where there is one, its null.

What figures draw, `--json` prints and conclusions read is computed here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from babelscope.analyses.sweep import Results
from babelscope.core.errors import InputError
from babelscope.core.stats import bootstrap_mean, percentile_interval, resample, wilson_interval
from babelscope.interp.neuron_blocks import cells_of, rates, spoken
from babelscope.interp.selection import Frozen, Lape

NEURON_DRAWS = 100


def scores(results: Results) -> pd.DataFrame:
    """Problems solved: step, language, group, solved, total, rate, low, high (Wilson).

    The group "all" holds every problem of the language; one group that all belong to is not listed again.
    """
    data = results["problem_scores"]
    rows = []
    for language in pd.unique(data["language"].to_numpy()):
        groups = pd.unique(data["group"].to_numpy()[data["language"].to_numpy() == language])
        for group in dict.fromkeys(["all", *(groups if len(groups) > 1 else ())]):
            steps, _, solved = outcomes(data, language, () if group == "all" else (group,))
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
                        "rate": count / (total or np.nan),
                        "low": low,
                        "high": high,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def outcomes(
    data: xr.Dataset, language: str, groups: Sequence[str] = ()
) -> tuple[Int[np.ndarray, " step"], list[str], Bool[np.ndarray, "problem step"]]:
    """Steps, problem ids and what was solved when, of one language and some groups; without any, of all.

    Problems that were not run are left out.

    Raises
    ------
    InputError
        If problems were completed several times: what is fitted to steps is one outcome per problem.
    """
    if data.sizes["sample"] > 1:
        raise InputError(
            f"problems were completed {data.sizes['sample']} times each; stages are fitted to greedy"
            " completions, one of each"
        )
    chosen = (data["language"].to_numpy() == language) & data["ran"].all(("step", "sample")).to_numpy()
    if groups:
        chosen &= np.isin(data["group"].to_numpy(), groups)
    some = data.isel(problem=np.flatnonzero(chosen), sample=0)
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
    """Language-transferring neurons: step, language, rule, count and, of it, low, high, null_low, null_high.

    Rule "paper" selects anew at each step, so that counts trade off within a fixed 1 %; rule "frozen"
    applies the first checkpoint's thresholds to all. Intervals resample blocks of documents. The null
    gives blocks to languages at random: what the same thresholds find where languages do not differ. As a
    share of what they did find this is the column false_discovery.
    """
    data = results["transferring_neurons"]
    frozen = Lape().thresholds(data.isel(step=0, drop=True))
    rows = []
    for number, step in enumerate(data["step"].to_numpy()):
        found = data.isel(step=number, drop=True)
        cells = cells_of(found)
        again = _resampled_rates(cells, np.random.default_rng(seed))
        for rule, thresholds in (("paper", Lape().thresholds(found)), ("frozen", frozen)):
            selection = Frozen(thresholds)(found)
            interval = percentile_interval(np.stack([thresholds.members(rate).sum((1, 2)) for rate in again]))
            null_interval = percentile_interval(selection.null_count.transpose("draw", "language").to_numpy())
            rows.append(
                pd.DataFrame(
                    {
                        "step": step,
                        "language": cells.attrs["languages"],
                        "rule": rule,
                        "count": selection.count.to_numpy(),
                        "low": interval[:, 0],
                        "high": interval[:, 1],
                        "null_low": null_interval[:, 0],
                        "null_high": null_interval[:, 1],
                        "false_discovery": selection.false_discovery.to_numpy(),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def _resampled_rates(
    cells: xr.Dataset, rng: np.random.Generator
) -> list[Float[np.ndarray, "language layer neuron"]]:
    """Firing rates of resamples of each language's blocks."""
    times = np.zeros((NEURON_DRAWS, *spoken(cells).shape), dtype=int)
    for language, own in enumerate(spoken(cells).astype(bool)):
        times[:, language, own] = resample(int(own.sum()), draws=NEURON_DRAWS, seed=rng)
    return [rates(cells, one) for one in times]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: no NaN, no infinity."""
    return json.loads(str(frame.to_json(orient="records", double_precision=12)))
