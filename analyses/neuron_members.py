"""Whose neuron a neuron is at each checkpoint, from when to when, and how often it fires."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from babelscope.core.stats import bootstrap_mean, percentile_interval
from babelscope.interp.lape import Thresholds, firing_rate


def frozen_members(firing: xr.Dataset) -> xr.DataArray:
    """LAPE at the first checkpoint's thresholds: bool (step, language, layer, neuron)."""
    summed = firing.sum("block")
    dims = ("step", "language", "layer", "neuron")
    rates = [
        firing_rate(total, tokens)
        for total, tokens in zip(
            summed["total"].transpose(*dims).to_numpy(), summed["tokens"].to_numpy(), strict=True
        )
    ]
    thresholds = Thresholds.of(rates[0])
    return xr.DataArray(
        np.stack([thresholds.members(rate) for rate in rates]),
        dims=dims,
        coords={name: summed[name] for name in ("step", "language")},
    )


def lives(members: xr.DataArray) -> pd.DataFrame:
    """A row for each language and neuron that was ever born, as `Neurons.table` describes it.

    Born at the first of two checkpoints in a row at which it is a member, or at the last; died at the first
    checkpoint after it was last so.
    """
    steps = members["step"].to_numpy()
    member = members.to_numpy()  # (step, language, layer, neuron)
    pairs = member[1:] & member[:-1]
    lasting = np.concatenate([pairs, member[-1:]]) | np.concatenate([member[:1] & False, pairs])
    languages, layers, neurons = np.nonzero(lasting.any(0))
    alive = lasting[:, languages, layers, neurons]  # (step, row)
    first, after = alive.argmax(0), len(steps) - alive[::-1].argmax(0)
    died = pd.array(steps[after.clip(max=len(steps) - 1)], dtype="Int64")
    died[after == len(steps)] = pd.NA
    return pd.DataFrame(
        {
            "language": members["language"].to_numpy()[languages],
            "layer": layers + 1,
            "neuron": neurons,
            "born": steps[first],
            "died": died,
            "present": member[:, languages, layers, neurons].sum(0),
            "from_start": first == 0,
        }
    )


def rate_of(
    fired: Float[np.ndarray, "block step"], tokens: Float[np.ndarray, "block step"]
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, "end step"]]:
    """Share of tokens on which a neuron fires, and its interval over blocks of text."""
    read = tokens[:, 0] > 0  # short text leaves some blocks empty
    fired, tokens = fired[read], tokens[read]
    draws = bootstrap_mean(fired / tokens, weights=tokens[:, 0])
    return fired.sum(0) / tokens.sum(0), percentile_interval(draws, clusters=len(fired)).T
