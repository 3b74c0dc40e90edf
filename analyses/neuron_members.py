"""Whose neuron a neuron is at each checkpoint, and how often it fires."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from babelscope.core.stats import bootstrap_mean, percentile_interval
from babelscope.interp.lape import Thresholds
from babelscope.interp.neuron_scores import scores


def frozen_members(firing: xr.Dataset) -> xr.DataArray:
    """LAPE at the first checkpoint's thresholds: bool (step, language, layer, neuron)."""
    rates = scores(firing, "transferring_neurons")
    thresholds = Thresholds.of(rates.isel(step=0).to_numpy())
    return rates.copy(data=[thresholds.members(rate) for rate in rates.to_numpy()])


def rate_of(
    fired: Float[np.ndarray, "block step"], tokens: Float[np.ndarray, "block step"]
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, "end step"]]:
    """Share of tokens on which a neuron fires, and its interval over blocks of text."""
    read = tokens[:, 0] > 0  # short text leaves some blocks empty
    fired, tokens = fired[read], tokens[read]
    draws = bootstrap_mean(fired / tokens, weights=tokens[:, 0])
    return fired.sum(0) / tokens.sum(0), percentile_interval(draws, clusters=len(fired)).T
