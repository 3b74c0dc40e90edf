"""Gradient × activation on the loss: against autograd, finite differences and planted neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch.nn.functional import cross_entropy

from babelscope.interp import neuron_gradients, token_loss
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.attribution import GradientAttribution
from babelscope.interp.batching import batches
from babelscope.interp.lens import Readout
from babelscope.interp.streams import TextStream
from babelscope.interp.token_loss import loss_gradient
from tests.conftest import make_model
from tests.questions import TEXTS

STREAM = TextStream(TEXTS, tokens=30, window=16)


def measured(anatomy, tokenizer, *, stream=STREAM, cuts=1, order=1):
    measure, reading = GradientAttribution(stream), stream.read(tokenizer)
    shards = np.array_split(np.arange(len(reading.items))[::order], cuts)
    parts = [measure.drive(anatomy, tokenizer, reading, [reading.items[i] for i in some]) for some in shards]
    return measure.combine(parts, reading), reading


def by_autograd(anatomy, reading):
    """−Σ a · ∂nats/∂a of each language, from the model's own logits of one unpadded window at a time."""
    found = np.zeros((len(reading.languages), anatomy.n_layers, anatomy.d_neurons))
    for item in reading.items:
        neurons = []

        def keep(_module, inputs, neurons=neurons):
            inputs[0].retain_grad()
            neurons.append(inputs[0])

        handles = [down.register_forward_pre_hook(keep) for down in anatomy.downs]
        ids = torch.as_tensor(item.ids)
        cross_entropy(anatomy.model(ids[None]).logits[0, :-1], ids[1:], reduction="sum").backward()
        for handle in handles:
            handle.remove()
        products = [-(n * n.grad).sum((0, 1)).detach().numpy() for n in neurons]
        found[reading.language[item.index]] += products
    anatomy.model.zero_grad()
    return found


def nats(anatomy, reading, language, *, edit=None):
    total = 0.0
    for item in reading.items:
        if reading.language[item.index] == language:
            ids, finals = torch.as_tensor(item.ids), []
            anatomy.run(
                ids[None],
                see={Site.FINAL: lambda _s, _l, final, finals=finals: finals.append(final[0])},
                edit={Site.NEURON: edit} if edit else None,
            )
            logits = Readout(anatomy).logits(finals[0][:-1])
            total += cross_entropy(logits, ids[1:], reduction="sum").item()
    return total


def close(found, expected, *, within=1e-5):
    np.testing.assert_allclose(found, expected, atol=within * np.abs(expected).max(), rtol=0)


def hooked(model):
    return [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]


def test_it_is_what_autograd_says_of_each_whole_sequence(tiny, tokenizer):
    result, reading = measured(tiny.anatomy, tokenizer)
    close(result["total"].sum("block"), by_autograd(tiny.anatomy, reading))
    assert result["tokens"].sum("block").to_numpy().tolist() == [30, 30]


def test_tied_embeddings_change_nothing_about_that(tokenizer):
    anatomy = Anatomy(make_model("llama", tie_word_embeddings=True))
    assert anatomy.unembed is anatomy.model.get_input_embeddings().weight
    result, reading = measured(anatomy, tokenizer)
    close(result["total"].sum("block"), by_autograd(anatomy, reading))


def test_it_is_the_derivative_of_the_loss_when_a_neuron_is_turned_down(tiny, tokenizer):
    tiny.model.double()  # some norms compute in float32 all the same
    result, reading = measured(tiny.anatomy, tokenizer)
    total, eps = result["total"].sum("block").to_numpy(), 1e-2
    for layer, neuron in ((0, 3), (1, 40), (2, 11)):

        def times(factor, layer=layer, neuron=neuron):
            def edit(at, neurons):
                neurons = neurons.clone()
                neurons[..., neuron] *= factor if at == layer else 1
                return neurons

            return nats(tiny.anatomy, reading, 1, edit=edit)

        expected = (times(1 - eps) - times(1 + eps)) / (2 * eps)
        assert total[1, layer, neuron] == pytest.approx(expected, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize(("sign", "helps"), [(1, True), (-1, False)])
def test_a_neuron_that_writes_the_next_token_helps_and_one_that_writes_against_it_harms(
    tokenizer, sign, helps
):
    texts = {"python": ["xxxxxxxxxxxxxxxxxxxxx"], "php": ["ababababababababababab"]}
    stream = TextStream(texts, tokens=20, window=16)
    model = make_model("gpt2")
    anatomy, x = Anatomy(model), tokenizer("xx")["input_ids"][0]
    mlp = model.transformer.h[-1].mlp
    with torch.no_grad():
        mlp.c_fc.weight[:, 5], mlp.c_fc.bias[5] = 0, 3.0
        mlp.c_proj.weight[5] = sign * 0.1 * anatomy.unembed[x] * model.transformer.ln_f.weight
    result, reading = measured(anatomy, tokenizer, stream=stream)
    score = result["total"].sum("block")[0, -1, 5].item()

    def silence(layer, neurons):
        neurons = neurons.clone()
        neurons[..., 5] *= layer != anatomy.n_layers - 1
        return neurons

    exact = nats(anatomy, reading, 0, edit=silence) - nats(anatomy, reading, 0)
    assert (score > 0) == (exact > 0) == helps
    assert abs(score) > 1


def test_batches_padding_order_and_shards_do_not_matter(tiny, tokenizer, monkeypatch):
    whole, _ = measured(tiny.anatomy, tokenizer)
    monkeypatch.setattr(neuron_gradients, "TOKENS", 16)
    single, _ = measured(tiny.anatomy, tokenizer, cuts=3, order=-1)
    close(single["total"], whole["total"])
    xr.testing.assert_equal(single["tokens"], whole["tokens"])


def test_the_gradient_of_the_loss_is_autograds_and_nothing_at_what_is_not_predicted(tiny, monkeypatch):
    (batch,) = batches(tiny.items, tokens=1000, device=torch.device("cpu"))
    readout = Readout(tiny.anatomy)
    final = torch.randn(*batch.input_ids.shape, 32)
    leaf = final.clone().requires_grad_()
    logits = readout.logits(leaf)
    for row, item in enumerate(batch.items):
        last = len(item.ids) - 1
        cross_entropy(logits[row, :last], torch.as_tensor(item.ids[1:]), reduction="sum").backward(
            retain_graph=True
        )
    for at_once in (1, 7 * 300, 1 << 24):
        monkeypatch.setattr(token_loss, "LOGITS_AT_ONCE", at_once)
        with torch.no_grad():
            found = loss_gradient(readout, final, batch)
        torch.testing.assert_close(found, leaf.grad, atol=1e-5, rtol=1e-4)
        assert not found[:, 1:][~batch.real[:, 1:]].any()


def test_bfloat16_says_the_same_but_for_its_rounding(tokenizer):
    exact, _ = measured(Anatomy(make_model("llama")), tokenizer)
    rounded, _ = measured(Anatomy(make_model("llama").bfloat16()), tokenizer)
    assert np.corrcoef(exact["total"].to_numpy().ravel(), rounded["total"].to_numpy().ravel())[0, 1] > 0.99


@pytest.mark.parametrize("wanted", [True, False])
def test_the_model_is_left_as_it_was_whether_or_not_its_weights_want_gradients(tiny, tokenizer, wanted):
    parameters = list(tiny.model.requires_grad_(wanted).parameters())
    before = [p.detach().clone() for p in parameters]
    result, _ = measured(tiny.anatomy, tokenizer)
    assert float(np.abs(result["total"]).max()) > 0
    assert all(p.grad is None and p.requires_grad == wanted for p in parameters)
    assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))
    assert hooked(tiny.model) == []


def test_hooks_are_gone_after_an_error_on_the_way_back(tiny, tokenizer, monkeypatch):
    def fails(*_):
        raise RuntimeError("no gradient")

    monkeypatch.setattr(token_loss, "loss_gradient", fails)
    with pytest.raises(RuntimeError, match="no gradient"):
        measured(tiny.anatomy, tokenizer)
    assert hooked(tiny.model) == []
    assert all(p.grad is None for p in tiny.model.parameters())
