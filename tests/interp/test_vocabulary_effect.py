"""What neurons write, against what the model's own norm and unembedding make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp import vocabulary_effect as module
from babelscope.interp.anatomy import Anatomy
from babelscope.interp.vocabulary_effect import TOP, chance, vocabulary_effect, written
from tests.conftest import make_model

NEURONS = {2: [5, 0], 0: [47]}


def one_unit_more(tiny, layer, neuron):
    """What the down-projection gives for a neuron's output of 1, less what it gives for 0."""
    down = tiny.anatomy.downs[layer]
    unit = torch.zeros(1, 1, tiny.anatomy.d_neurons, dtype=next(down.parameters()).dtype)
    nothing = unit.clone()
    unit[..., neuron] = 1
    return (down(unit) - down(nothing))[0, 0].detach()


def test_a_neuron_writes_what_the_down_projection_makes_of_its_output(tiny):
    rows = written(tiny.anatomy, NEURONS)
    expected = [one_unit_more(tiny, layer, n) for layer, chosen in NEURONS.items() for n in chosen]
    torch.testing.assert_close(rows, torch.stack(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [70, 7, 1024])
def test_tokens_are_moved_as_the_models_own_readout_moves_them(tiny, monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)  # 7: fewer than are kept
    found = vocabulary_effect(tiny.anatomy, written(tiny.anatomy, NEURONS))
    norm, unembed = tiny.anatomy.final_norm.double(), tiny.anatomy.unembed.double()
    for row, one in enumerate(written(tiny.anatomy, NEURONS).double()):
        # Added at a right angle to a state and without changing its mean, it leaves the norm's σ as it is.
        centred = one - one.mean()
        apart = torch.linalg.qr(torch.stack([centred, torch.ones_like(one)], 1)).Q
        state = torch.randn(len(one), generator=torch.Generator().manual_seed(row), dtype=torch.float64)
        state = state - apart @ (apart.T @ state)
        with torch.no_grad():
            change = (norm(state + 0.01 * one) - norm(state - 0.01 * one)) @ unembed.T
        z = ((change - change.mean()) / change.std(correction=0)).numpy()
        for ids, by, order in (
            (found.raised[row], found.raised_by[row], np.argsort(-z)),
            (found.lowered[row], found.lowered_by[row], np.argsort(z)),
        ):
            np.testing.assert_allclose(by, z[order[:TOP]], rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(z[ids], by, rtol=1e-3, atol=1e-3)


def test_about_one_in_twenty_random_directions_reaches_what_chance_reaches():
    anatomy = Anatomy(make_model("gpt2"))
    rows = torch.randn(2000, anatomy.unembed.shape[1], generator=torch.Generator().manual_seed(7))
    beyond = vocabulary_effect(anatomy, rows, top=1).raised_by > chance(anatomy)
    assert 0.02 < float(beyond.float().mean()) < 0.09


def test_a_neuron_that_writes_a_tokens_own_direction_raises_it_beyond_chance():
    model = make_model("llama")
    anatomy = Anatomy(model)
    with torch.no_grad():
        model.model.norm.weight.fill_(1.0)
        anatomy.downs[1].weight[:, 9] = anatomy.unembed[123] - anatomy.unembed.mean(0)
    found = vocabulary_effect(anatomy, written(anatomy, {1: [9]}))
    assert found.raised[0, 0] == 123
    assert found.raised_by[0, 0] > chance(anatomy)


def test_bfloat16_finds_about_the_same(tiny):
    exact = vocabulary_effect(tiny.anatomy, written(tiny.anatomy, NEURONS))
    rough = Anatomy(tiny.model.bfloat16())
    found = vocabulary_effect(rough, written(rough, NEURONS))
    torch.testing.assert_close(found.raised_by, exact.raised_by, rtol=0.05, atol=0.05)


def test_no_neurons_are_refused():
    with pytest.raises(InputError, match=r"no neurons were given; name at least one, such as \{0: \[12\]\}"):
        written(Anatomy(make_model("gpt2")), {0: []})
