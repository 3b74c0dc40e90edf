"""Changed neurons: against edited weights, direct sums, and positions that exist."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from babelscope.core.errors import InputError
from babelscope.interp.ablation import Activity, Mode, Pool, change, nats, steered
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.batching import batches
from babelscope.interp.lens import Readout
from babelscope.interp.measure import Item
from babelscope.interp.streams import TextReading
from tests.conftest import make_model

CONSTANT = (Mode.ZERO, Mode.MEAN, Mode.AMPLIFY, Mode.PATCH)
LANGUAGE = np.array([0, 0, 0, 1, 1])  # of the five sequences


def reading_of(tiny):
    return TextReading(tiny.items, ("python", "php"), LANGUAGE, np.arange(5), np.ones(5, int))


def some(anatomy, *, share=0.2, seed=0):
    return np.random.default_rng(seed).random((anatomy.n_layers, anatomy.d_neurons)) < share


def outputs(anatomy, items, edit=None):
    """Every layer's neurons of every sequence, one sequence at a time: (layer, position, neuron)."""
    found = []
    for item in items:
        layers = []
        anatomy.run(
            torch.as_tensor(item.ids)[None],
            see={Site.NEURON: lambda _site, _layer, tensor, to=layers: to.append(tensor[0].double().numpy())},
            edit={Site.NEURON: edit([item.index])} if edit else {},
        )
        found.append(np.stack(layers))
    return found


def rewritten(model, members, mode, activity=None):
    """A copy whose down-projections do by weights what the mode does by hooks."""
    anatomy = Anatomy(copy.deepcopy(model))
    level = {} if activity is None else {Mode.MEAN: activity.mean.mean(0), Mode.PATCH: activity.mean[1]}
    for layer, down in enumerate(anatomy.downs):
        rows = down.weight.data if isinstance(down, Conv1D) else down.weight.data.T  # (neuron, d_model)
        if mode in level:
            if down.bias is None:
                down.bias = nn.Parameter(torch.zeros(rows.shape[1]))
            put = torch.as_tensor(level[mode][layer][members[layer]], dtype=rows.dtype)
            down.bias.data += put @ rows[members[layer]]
        rows[members[layer]] *= 2 if mode == Mode.AMPLIFY else 0
    return anatomy


def test_activity_is_the_mean_and_root_mean_square_of_real_positions(tiny):
    found = Activity.of(tiny.anatomy, reading_of(tiny))
    by_sequence = outputs(tiny.anatomy, tiny.items)
    for language in (0, 1):
        own = [o for o, which in zip(by_sequence, LANGUAGE, strict=True) if which == language]
        direct = np.concatenate(own, axis=1)
        np.testing.assert_allclose(found.mean[language], direct.mean(1), rtol=1e-4, atol=1e-5)
    squares = [np.concatenate([by_sequence[i] for i in of], axis=1) ** 2 for of in ((0, 1, 2), (3, 4))]
    expected = np.sqrt((squares[0].mean(1) + squares[1].mean(1)) / 2)
    np.testing.assert_allclose(found.size, expected, rtol=1e-4, atol=1e-6)


def test_changing_by_hooks_is_changing_the_weights(tiny):
    members, activity = some(tiny.anatomy), Activity.of(tiny.anatomy, reading_of(tiny))
    (batch,) = batches(tiny.items, tokens=1 << 12, device=tiny.anatomy.device)
    before = nats(tiny.anatomy, Readout(tiny.anatomy), batch)
    for mode in CONSTANT:
        other = rewritten(tiny.model, members, mode, activity)
        expected = nats(other, Readout(other), batch)
        made = change(tiny.anatomy, members, mode, activity=activity, language="php")
        found = nats(tiny.anatomy, Readout(tiny.anatomy), batch, made.edit([0] * 5))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert np.abs(expected - before).max() > 1e-3
        with steered(tiny.anatomy, made):
            np.testing.assert_allclose(nats(tiny.anatomy, Readout(tiny.anatomy), batch), expected, rtol=1e-5)
    np.testing.assert_array_equal(nats(tiny.anatomy, Readout(tiny.anatomy), batch), before)


def test_loss_is_that_of_the_models_own_logits(tiny):
    (batch,) = batches(tiny.items, tokens=1 << 12, device=tiny.anatomy.device)
    found = nats(tiny.anatomy, Readout(tiny.anatomy), batch)
    for item, loss in zip(batch.items, found, strict=True):
        ids = torch.as_tensor(item.ids)[None]
        with torch.no_grad():
            expected = float(tiny.model(ids, labels=ids).loss) * (len(item.ids) - 1)
        assert loss == pytest.approx(expected, rel=1e-4)


def test_a_resampled_set_is_as_it_was_at_one_real_position_in_all_layers(tiny):
    members = some(tiny.anatomy)
    pool = Pool.of(tiny.anatomy, reading_of(tiny), members | some(tiny.anatomy, seed=1))
    made = change(tiny.anatomy, members, Mode.RESAMPLE, pool=pool)
    clean = outputs(tiny.anatomy, tiny.items)
    real = np.concatenate([o.transpose(1, 0, 2)[:, members] for o in clean])
    drawn = []
    for item, after in zip(tiny.items, outputs(tiny.anatomy, tiny.items, made.edit), strict=True):
        held = after.transpose(1, 0, 2)[:, members]  # (position, member)
        distance = np.abs(held[:, None] - real[None]).max(-1)
        assert (distance.min(1) < 1e-4).all()
        drawn += distance.argmin(1).tolist()
        # Where nothing was changed before it, a neuron outside the set is what it was.
        np.testing.assert_allclose(
            after[0][:, ~members[0]], clean[item.index][0][:, ~members[0]], rtol=1e-3, atol=1e-4
        )
    assert len(set(drawn)) > 10


def test_resampling_draws_from_every_language_alike():
    anatomy = Anatomy(make_model("gpt2"))
    rng = np.random.default_rng(0)
    items = [Item(rng.integers(0, 300, n), i) for i, n in enumerate((60, 60, 10))]
    reading = TextReading(items, ("a", "b"), np.array([0, 0, 1]), np.arange(3), np.ones(3, int))
    members = some(anatomy)
    pool = Pool.of(anatomy, reading, members)
    rare = outputs(anatomy, items[2:])[0].transpose(1, 0, 2)[:, members]
    values = np.concatenate([of.numpy() for of in pool.values], axis=1)
    from_rare = (np.abs(values[:, None] - rare[None]).max(-1) < 1e-4).any(1)
    assert len(values) == 20
    assert from_rare.sum() == 10


def test_how_text_is_batched_does_not_matter(tiny):
    members = some(tiny.anatomy)
    made = change(tiny.anatomy, members, Mode.RESAMPLE, pool=Pool.of(tiny.anatomy, reading_of(tiny), members))
    readout, found = Readout(tiny.anatomy), []
    for tokens in (1, 1 << 12):
        losses = {}
        for batch in batches(tiny.items, tokens=tokens, device=tiny.anatomy.device):
            rows = [item.index for item in batch.items]
            losses |= dict(zip(rows, nats(tiny.anatomy, readout, batch, made.edit(rows)), strict=True))
        found.append([losses[i] for i in range(5)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_generation_goes_on_with_the_set_changed():
    model = make_model("llama")
    anatomy, ids = Anatomy(model), torch.tensor([[5, 17, 200]])
    members = some(anatomy, share=0.5)
    wanted = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with steered(anatomy, change(anatomy, members, Mode.AMPLIFY)):
        found = model.generate(ids, **wanted)
    other = rewritten(model, members, Mode.AMPLIFY).model
    assert found.tolist() == other.generate(ids, **wanted).tolist()
    assert found.tolist() != model.generate(ids, **wanted).tolist()


def test_steering_ends_with_its_block_even_after_an_error():
    anatomy = Anatomy(make_model("gpt2"))
    with pytest.raises(RuntimeError), steered(anatomy, change(anatomy, some(anatomy), Mode.ZERO)):
        raise RuntimeError
    assert not any(down._forward_pre_hooks for down in anatomy.downs)


def test_what_a_mode_needs_is_asked_for():
    anatomy = Anatomy(make_model("gpt2"))
    members = some(anatomy)
    activity = Activity(("python", "php"), np.zeros((2, *members.shape)), np.zeros(members.shape))
    with pytest.raises(InputError, match=r"shape \(2, 128\)"):
        change(anatomy, members[:2], Mode.ZERO)
    with pytest.raises(InputError, match=r"'mean' needs .* Activity\.of"):
        change(anatomy, members, Mode.MEAN)
    with pytest.raises(InputError, match=r"patch to 'lua'; the text is in python, php"):
        change(anatomy, members, Mode.PATCH, activity=activity, language="lua")
    pool = Pool(~members, [torch.zeros(2, int(of.sum())) for of in ~members])
    with pytest.raises(InputError, match=r"Pool\.of"):
        change(anatomy, members, Mode.RESAMPLE, pool=pool)
    pool = Pool(members, [torch.zeros(2, int(of.sum())) for of in members])
    with (
        pytest.raises(InputError, match="cannot be steered"),
        steered(anatomy, change(anatomy, members, Mode.RESAMPLE, pool=pool)),
    ):
        pass
