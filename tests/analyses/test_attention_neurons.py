"""Neurons of attention are counted where they were put, and said to be unproved."""

from __future__ import annotations

import numpy as np
import xarray as xr

from babelscope.analyses.attention_neurons import attention_in_words, attention_neurons

OWN = np.arange(20)  # of layer 2


class Stored(dict):
    """Results with a random model's."""

    def null(self, measure):
        return totals(np.random.default_rng(1))


def totals(rng, *, planted=False):
    values = rng.gamma(20, size=(2, 8, 2, 100))  # language, block, layer, neuron
    if planted:
        values[1][:, 1, OWN] *= 6
    return xr.Dataset(
        {
            "total": (("language", "block", "layer", "neuron"), values),
            "tokens": (("language", "block"), np.full((2, 8), 50)),
        },
        coords={"language": ["python", "php"]},
    )


def test_a_projections_own_neurons_are_listed_with_their_layer_counted_from_1():
    found = totals(np.random.default_rng(0), planted=True).expand_dims(step=[7])
    table = attention_neurons(Stored(plnd_key=found), level=0.1)  # pyright: ignore[reportArgumentType]
    mine = table[table["language"] == "php"]
    assert set(mine["step"]) == {7}
    assert set(mine["score"]) == {"plnd_key"}
    assert set(OWN) <= set(mine["neuron"][mine["layer"] == 2])
    assert len(mine) <= len(OWN) + 4
    assert (mine["q"] <= 0.1).all()
    said = attention_in_words(table, step=7, languages=["python", "php"], level=0.1)
    assert f"PLND, key 0 of Python and {len(mine)} of PHP" in said
    assert "PLND, value 0 of Python and 0 of PHP" in said
    assert "nothing says that they matter" in said
