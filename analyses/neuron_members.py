"""Whose neuron a neuron is at each checkpoint, and how often it fires."""

from __future__ import annotations

import numpy as np
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


def rate_of(
    fired: Float[np.ndarray, "block step"], tokens: Float[np.ndarray, "block step"]
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, "end step"]]:
    """Share of tokens on which a neuron fires, and its interval over blocks of text."""
    read = tokens[:, 0] > 0  # short text leaves some blocks empty
    fired, tokens = fired[read], tokens[read]
    draws = bootstrap_mean(fired / tokens, weights=tokens[:, 0])
    return fired.sum(0) / tokens.sum(0), percentile_interval(draws, clusters=len(fired)).T
