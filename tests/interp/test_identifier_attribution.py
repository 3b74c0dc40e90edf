"""What neurons do to the choice of an identifier: against autograd, changed states and planted neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from babelscope.interp import identifier_attribution, neuron_gradients
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.identifier_attribution import DirectEffect, IdentifierAttribution
from babelscope.interp.observe import observe
from babelscope.interp.streams import PromptStream
from babelscope.probes.identifiers import Probe, ProbeSet
from tests.conftest import make_model
from tests.questions import FEW, PROBES, TEXTS

PIVOT, TARGET = "python", "php"
# A second spelling of one concept: how much each weighs then depends on the state.
SPELLINGS = ProbeSet((*PROBES.probes, Probe("length", "php", "k = f(a); m = ", "N", "(xs)")))
STREAM = PromptStream(SPELLINGS, background=TEXTS, minimum=FEW)
SINGLE = PromptStream(PROBES, background=TEXTS, minimum=FEW)
BOTH = [IdentifierAttribution, DirectEffect]


def measured(kind, anatomy, tokenizer, *, stream=STREAM, cuts=1, order=1, tokens=1 << 12):
    """What the executor does, without its store."""
    measure, reading = kind(stream, pivot=PIVOT, target=TARGET), stream.read(tokenizer)
    parts = []
    for some in np.array_split(np.arange(len(reading.items))[::order], cuts):
        shard = [reading.items[i] for i in some]
        if kind is IdentifierAttribution:
            parts.append(measure.drive(anatomy, tokenizer, reading, shard))
        else:
            observer = measure.observer(anatomy, reading, shard)
            observe(anatomy, shard, [(measure.sites, observer)], tokens=tokens)
            parts.append(observer.result())
    return measure.combine(parts, reading), reading


def log_odds(logits, sets):
    pivot, target = (logits[..., torch.as_tensor(tokens)].double() for tokens in sets)
    return pivot.exp().mean(-1).log() - target.exp().mean(-1).log()


def asked(reading):
    """(item, concept, its sets) of the target's prompts."""
    return [
        (item, probe.concept, [reading.sets[probe.concept, language] for language in (PIVOT, TARGET)])
        for item, probe in zip(reading.items, reading.probes, strict=True)
        if probe.language == TARGET
    ]


def summed(reading, of_prompt):
    """Of the target's prompts, by concept."""
    found = {}
    for item, concept, sets in asked(reading):
        found[concept] = found.get(concept, 0) + of_prompt(torch.as_tensor(item.ids), sets)
    return found


def frozen(norm, hidden):
    """The final norm with its scale held at what it is of `hidden`, written out."""
    centred = isinstance(norm, nn.LayerNorm)
    eps = norm.eps if centred else norm.variance_epsilon

    def middle(x):
        return x - x.mean(-1, keepdim=True) if centred else x

    scale = (middle(hidden).square().mean(-1, keepdim=True) + eps).sqrt()
    bias = norm.bias if centred else 0.0
    return lambda x: middle(x) / scale * norm.weight + bias


def states(anatomy, ids, *, silent=()):
    """At the last position, neurons' outputs by layer and the last block's output; one neuron silent."""

    def edit(layer, neurons):
        if silent and layer == silent[0]:
            neurons = neurons.clone()
            neurons[..., -1, silent[1]] = 0
        return neurons

    neurons, hidden = [], {}
    anatomy.run(
        ids[None],
        see={
            Site.NEURON: lambda _s, _l, tensor: neurons.append(tensor[0, -1]),
            Site.RESIDUAL: lambda _s, layer, tensor: hidden.__setitem__(layer, tensor[0, -1]),
        },
        edit={Site.NEURON: edit},
    )
    return neurons, hidden[anatomy.n_layers]


def logits_of(anatomy, normed):
    return anatomy.model.get_output_embeddings()(normed)


def close(found, expected, *, within=2e-5):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, atol=within * np.abs(expected).max(), rtol=0)


def test_the_prompts_hold_a_concept_with_two_spellings(tokenizer):
    reading = STREAM.read(tokenizer)
    assert len(reading.sets["length", TARGET]) == 2
    assert len(SINGLE.read(tokenizer).sets["length", TARGET]) == 1


def test_attribution_is_what_autograd_says_of_each_whole_prompt(tiny, tokenizer):
    result, reading = measured(IdentifierAttribution, tiny.anatomy, tokenizer)

    def of_prompt(ids, sets):
        neurons = []

        def keep(_module, inputs):
            inputs[0].retain_grad()
            neurons.append(inputs[0])

        handles = [down.register_forward_pre_hook(keep) for down in tiny.anatomy.downs]
        log_odds(tiny.model(ids[None]).logits[0, -1], sets).backward()
        for handle in handles:
            handle.remove()
        return np.stack([(n * n.grad).sum((0, 1)).detach().numpy() for n in neurons])

    for concept, expected in summed(reading, of_prompt).items():
        close(result["total"].sel(language=PIVOT, block=concept), expected)
    tiny.model.zero_grad()


def test_attribution_is_the_derivative_when_a_neuron_is_turned_down(tiny, tokenizer):
    result, reading = measured(IdentifierAttribution, tiny.anatomy, tokenizer)
    layer, neuron, eps = 1, 17, 3e-2

    def odds(ids, sets, factor):
        finals = []

        def edit(at, neurons):
            neurons = neurons.clone()
            neurons[..., neuron] *= factor if at == layer else 1
            return neurons

        anatomy = tiny.anatomy
        see = {Site.FINAL: lambda _s, _l, final: finals.append(final[0, -1])}
        anatomy.run(ids[None], see=see, edit={Site.NEURON: edit})
        return log_odds(logits_of(anatomy, finals[0]), sets).item()

    expected = summed(
        reading, lambda ids, sets: (odds(ids, sets, 1 + eps) - odds(ids, sets, 1 - eps)) / (2 * eps)
    )
    for concept, value in expected.items():
        found = result["total"].sel(language=PIVOT, block=concept)[layer, neuron].item()
        assert found == pytest.approx(value, rel=1e-2, abs=5e-4)


@torch.no_grad()
def test_the_direct_effect_is_exact_where_later_blocks_and_the_norms_scale_are_held(tiny, tokenizer):
    """What the log-odds lose when only the neuron's own vector is taken out of the last state."""
    result, reading = measured(DirectEffect, tiny.anatomy, tokenizer, stream=SINGLE)
    norm = tiny.anatomy.final_norm

    def of_prompt(ids, sets):
        neurons, hidden = states(tiny.anatomy, ids)
        norm_here = frozen(norm, hidden)
        torch.testing.assert_close(norm_here(hidden), norm(hidden), atol=1e-4, rtol=1e-4)
        found = []
        for own, down in zip(neurons, tiny.anatomy.downs, strict=True):
            written = down(torch.diag(own)) - down(torch.zeros(len(own), len(own)))  # of each neuron alone
            without = log_odds(logits_of(tiny.anatomy, norm_here(hidden - written)), sets)
            found.append(log_odds(logits_of(tiny.anatomy, norm_here(hidden)), sets) - without)
        return torch.stack(found).numpy()

    for concept, expected in summed(reading, of_prompt).items():
        close(result["total"].sel(language=PIVOT, block=concept), expected, within=1e-4)


@torch.no_grad()
def test_of_several_spellings_each_weighs_what_it_weighs_in_the_log_odds(tiny, tokenizer):
    result, reading = measured(DirectEffect, tiny.anatomy, tokenizer)
    eps = 1e-2

    def of_prompt(ids, sets):
        neurons, hidden = states(tiny.anatomy, ids)
        norm_here = frozen(tiny.anatomy.final_norm, hidden)
        down, own = tiny.anatomy.downs[-1], neurons[-1]
        written = down(torch.diag(own)) - down(torch.zeros(len(own), len(own)))
        more, less = (
            log_odds(logits_of(tiny.anatomy, norm_here(hidden + by * written)), sets) for by in (eps, -eps)
        )
        return ((more - less) / (2 * eps)).numpy()

    expected = summed(reading, of_prompt)["length"]
    close(result["total"].sel(language=PIVOT, block="length")[-1], expected, within=1e-3)


@torch.no_grad()
def test_in_the_last_layer_it_is_what_silencing_does_but_for_the_norms_scale(tiny, tokenizer):
    result, reading = measured(DirectEffect, tiny.anatomy, tokenizer, stream=SINGLE)
    layer, neuron = tiny.anatomy.n_layers - 1, 13

    def of_prompt(ids, sets):
        hidden, without = (states(tiny.anatomy, ids, silent=some)[1] for some in ((), (layer, neuron)))
        norm_here = frozen(tiny.anatomy.final_norm, hidden)
        before, after = (
            log_odds(logits_of(tiny.anatomy, norm_here(state)), sets) for state in (hidden, without)
        )
        return (before - after).item()

    for concept, expected in summed(reading, of_prompt).items():
        found = result["total"].sel(language=PIVOT, block=concept)[layer, neuron].item()
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", BOTH)
def test_a_neuron_that_writes_the_pivots_identifier_pushes_toward_the_pivot(kind, tokenizer):
    model = make_model("gpt2")
    anatomy, sets = Anatomy(model), SINGLE.read(tokenizer).sets
    pivot, target = (anatomy.unembed[sets["length", language]].mean(0) for language in (PIVOT, TARGET))
    mlp = model.transformer.h[-1].mlp
    with torch.no_grad():
        mlp.c_fc.weight[:, 5], mlp.c_fc.bias[5] = 0, 3.0  # always on
        mlp.c_proj.weight[5] = 0.5 * (pivot - target) * model.transformer.ln_f.weight
    result, _ = measured(kind, anatomy, tokenizer, stream=SINGLE)
    toward = result["total"].sel(block="length")[:, -1, 5]
    assert toward.sel(language=PIVOT).item() > 0.5
    assert toward.sel(language=TARGET).item() == -toward.sel(language=PIVOT).item()


@pytest.mark.parametrize("kind", BOTH)
def test_codegens_bias_of_the_unembedding_cancels_where_each_language_has_one_token(kind, tokenizer):
    model = make_model("codegen")
    before, _ = measured(kind, Anatomy(model), tokenizer, stream=SINGLE)
    with torch.no_grad():
        model.lm_head.bias += torch.randn(len(model.lm_head.bias))
    after, _ = measured(kind, Anatomy(model), tokenizer, stream=SINGLE)
    close(after["total"], before["total"])


@pytest.mark.parametrize("kind", BOTH)
def test_batches_padding_order_and_shards_do_not_matter(kind, tiny, tokenizer, monkeypatch):
    whole, _ = measured(kind, tiny.anatomy, tokenizer)
    monkeypatch.setattr(neuron_gradients, "TOKENS", 20)
    single, _ = measured(kind, tiny.anatomy, tokenizer, cuts=4, order=-1, tokens=20)
    close(single["total"], whole["total"], within=1e-5)
    xr.testing.assert_equal(single["tokens"], whole["tokens"])


@pytest.mark.parametrize("kind", BOTH)
def test_blocks_are_concepts_and_tokens_their_prompts_in_the_target(kind, tokenizer):
    result, _ = measured(kind, Anatomy(make_model("gpt2")), tokenizer)
    assert result["total"].dims == ("language", "block", "layer", "neuron")
    assert result["language"].to_numpy().tolist() == [PIVOT, TARGET]
    tokens = result["tokens"].to_pandas()
    assert tokens.loc[PIVOT].to_dict() == tokens.loc[TARGET].to_dict() == {"length": 4, "show": 3}
    assert result.attrs["paired"] == 1
    assert kind.random_init


@pytest.mark.parametrize("kind", BOTH)
def test_the_model_is_left_as_it_was_after_an_error_too(kind, tiny, tokenizer, monkeypatch):
    def traces():
        hooked = [m for m in tiny.model.modules() if m._forward_hooks or m._forward_pre_hooks]
        return hooked + [p for p in tiny.model.parameters() if p.grad is not None or p.requires_grad]

    tiny.model.requires_grad_(False)
    measured(kind, tiny.anatomy, tokenizer)
    assert traces() == []

    def fails(*_):
        raise RuntimeError("no gradient")

    monkeypatch.setattr(identifier_attribution._Odds, "gradient", fails)
    with pytest.raises(RuntimeError, match="no gradient"):
        measured(kind, tiny.anatomy, tokenizer)
    assert traces() == []
