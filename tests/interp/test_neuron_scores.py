"""Scores and contrasts against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from babelscope.core.errors import InputError
from babelscope.interp.neuron_scores import METHODS, contrast, scores

LANGUAGES = ["python", "php", "csharp"]
SHAPE = (3, 4, 2, 5)  # language, block, layer, neuron


def found(rng, tokens=None):
    tokens = rng.integers(1, 50, SHAPE[:2]) if tokens is None else tokens
    return xr.Dataset(
        {
            "total": (("language", "block", "layer", "neuron"), rng.random(SHAPE) * 100),
            "tokens": (("language", "block"), tokens),
        },
        coords={"language": LANGUAGES},
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_score_is_of_all_tokens_whatever_blocks_they_are_in(method):
    data = found(np.random.default_rng(0))
    score = scores(data, method)
    assert score.dims == ("language", "layer", "neuron")
    for language in range(3):
        mean = sum(data["total"].to_numpy()[language]) / sum(data["tokens"].to_numpy()[language])
        expected = mean**0.5 if method.startswith("plnd") else mean
        np.testing.assert_allclose(score[language], expected)


def test_scores_of_a_series_are_those_of_its_steps():
    rng = np.random.default_rng(0)
    steps = [found(rng), found(rng)]
    series = scores(xr.concat(steps, dim=xr.IndexVariable("step", [0, 10])), "plnd_ffn")
    assert series.dims == ("step", "language", "layer", "neuron")
    for step, one in zip((0, 10), steps, strict=True):
        xr.testing.assert_allclose(series.sel(step=step, drop=True), scores(one, "plnd_ffn"))


def test_contrast_is_one_alone_zero_among_equals_and_minus_one_for_the_rest():
    score = xr.DataArray(
        [[0.5, 0.2, 0.0, 3.0], [0.0, 0.2, 0.0, -1.0], [0.0, 0.2, 0.0, 0.0]],
        dims=("language", "neuron"),
        coords={"language": LANGUAGES},
    )
    expected = [[1, 0, 0, 1], [-1, 0, 0, -1], [-1, 0, 0, -1]]
    np.testing.assert_allclose(contrast(score), expected, atol=1e-12)


def test_contrast_is_against_the_mean_of_the_others():
    score = xr.DataArray([[0.6], [0.1], [0.3]], dims=("language", "neuron"), coords={"language": LANGUAGES})
    np.testing.assert_allclose(contrast(score)[0], (0.6 - 0.2) / (0.6 + 0.2))


def test_what_cannot_be_scored_is_refused_by_name():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="'language_loss' scores no neurons"):
        scores(found(rng), "language_loss")
    with pytest.raises(InputError, match="no tokens of php"):
        scores(found(rng, np.array([[1] * 4, [0] * 4, [1] * 4])), "plnd_ffn")
    with pytest.raises(InputError, match="two languages"):
        contrast(scores(found(rng).isel(language=[0]), "plnd_ffn"))
