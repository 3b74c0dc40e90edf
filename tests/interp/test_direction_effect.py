"""Changing one layer's coefficient: against full passes, closed forms and blocks of known behaviour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from babelscope.core.errors import InputError
from babelscope.interp import direction_effect as module
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.direction_effect import DirectionEffect, levels
from babelscope.interp.directions import contrasted, directions
from babelscope.interp.observe import observe
from babelscope.interp.streams import PromptStream
from babelscope.interp.working_language import matched_sets
from babelscope.probes.identifiers import Probe, ProbeSet
from tests.conftest import make_model
from tests.questions import FEW, PROBES, TEXTS

IDS = torch.tensor([[5, 17, 200, 3, 42]])
PIVOT, TARGET = np.array([3, 7]), np.array([11])
CLOSE = 5e-5  # what float32 leaves; later blocks of a random model do little more than ten times that
LAYER_NORM = {"gpt2", "gpt_neox", "codegen", "gpt_bigcode", "starcoder2"}


@pytest.fixture
def stream():
    return PromptStream(PROBES, background=TEXTS, minimum=FEW)


@pytest.fixture
def gpt2():
    return Anatomy(make_model("gpt2"))


def measured(anatomy, tokenizer, stream, *, cuts=1, order=1):
    """What the executor does, without its store: what is needed first, then the shards, then together."""
    measure = DirectionEffect(stream, pivot="python", target="php")
    reading = stream.read(tokenizer)
    observer = measure.needs.observer(anatomy, reading, reading.items)
    observe(anatomy, reading.items, [(measure.needs.sites, observer)], tokens=1 << 12)
    ready = measure.using(measure.needs.combine([observer.result()], reading))
    shards = np.array_split(np.arange(len(reading.items))[::order], cuts)
    parts = [ready.drive(anatomy, tokenizer, reading, [reading.items[i] for i in some]) for some in shards]
    return measure.combine(parts, reading), reading


def log_odds(logits, pivot, target):
    strength = [np.log(np.exp(logits[tokens]).mean()) for tokens in (pivot, target)]
    return strength[0] - strength[1]


def silenced(model, *blocks):
    """These blocks write nothing: what comes in goes out."""
    for block in blocks:
        for part in (block.attn.c_proj, block.mlp.c_proj):
            part.weight.data.zero_()
            part.bias.data.zero_()
    return model


def test_the_direction_is_the_unembeddings_difference_through_the_norms_weight(tiny):
    rows = tiny.anatomy.unembed.detach().double()
    weight = tiny.anatomy.final_norm.weight.detach().double()
    expected = weight * (rows[PIVOT].mean(0) - rows[TARGET].mean(0))
    if tiny.family in LAYER_NORM:
        expected -= expected.mean()
    found = directions(tiny.anatomy, [(PIVOT, TARGET)])[0]
    torch.testing.assert_close(found.double(), expected / expected.norm(), atol=1e-5, rtol=1e-4)


def test_effects_are_those_of_full_passes_without_a_cache(tiny, tokenizer, stream):
    result, reading = measured(tiny.anatomy, tokenizer, stream)
    random = matched_sets(reading)
    everywhere = {}
    for item in reading.items:
        hidden = {}
        tiny.anatomy.run(
            torch.as_tensor(item.ids)[None],
            see={Site.RESIDUAL: lambda _s, layer, h, kept=hidden: kept.__setitem__(layer, h[0, -1])},
        )
        everywhere[item.index] = hidden
    probes, languages = reading.probes, ("python", "php")
    for prompt in result["prompt"].to_numpy()[[0, -1]]:
        concept = probes[prompt].concept
        sets = [reading.sets[concept, language] for language in languages]
        drawn = [random[concept, language][4] for language in languages]
        own, other = directions(tiny.anatomy, [sets, drawn])
        ids = torch.as_tensor(reading.items[prompt].ids)[None]

        def level(layer, language, *, same, concept=concept, own=own):
            chosen = [
                i for i, p in enumerate(probes) if p.language == language and (p.concept == concept) == same
            ]
            return np.mean([float(everywhere[i][layer] @ own) for i in chosen])

        for layer in (1, 2, 3):
            values = {
                "ablate": np.mean([level(layer, language, same=False) for language in languages]),
                "patch": level(layer, "python", same=True),
            }
            for intervention, value in values.items():
                shift = value - float(everywhere[prompt][layer] @ own)
                cell = result.sel(prompt=prompt, layer=layer, intervention=intervention)
                assert cell["shift"].item() == pytest.approx(shift, abs=1e-3)
                for unit, name, at in ((own, "", {}), (other, "null_", {"draw": 4})):
                    logits = logits_after(tiny, ids, layer, shift * unit)
                    found = cell if not name else cell.isel(at)
                    expected = log_odds(logits, *sets)
                    assert found[f"{name}after"].item() == pytest.approx(expected, abs=CLOSE)
                    right = np.exp(logits)[sets[1]].sum() / np.exp(logits).sum()
                    assert found[f"{name}right_after"].item() == pytest.approx(right, rel=1e-2, abs=1e-9)


def logits_after(tiny, ids, layer, change):
    """Last-position logits of the model's own full pass with a change after one block."""

    def changed(_module, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = hidden.clone()
        hidden[:, -1] += change
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = tiny.anatomy.blocks[layer - 1].register_forward_hook(changed)
    with torch.no_grad():
        logits = tiny.model(ids, use_cache=False).logits[0, -1].double().numpy()
    handle.remove()
    return logits


def test_after_the_last_block_everything_is_direct(tiny, tokenizer, stream):
    result, _ = measured(tiny.anatomy, tokenizer, stream)
    last = result.isel(layer=-1)
    np.testing.assert_allclose(last["after"], last["direct"], atol=CLOSE)
    np.testing.assert_allclose(last["null_after"], last["null_direct"], atol=CLOSE)
    earlier = result.isel(layer=0)
    assert float(np.abs(earlier["after"] - earlier["direct"]).max()) > 10 * CLOSE


def test_blocks_that_write_nothing_leave_exactly_the_readout_of_the_changed_state(tokenizer, stream):
    model = make_model("gpt2")
    anatomy = Anatomy(silenced(model, *model.transformer.h[1:]))
    result, reading = measured(anatomy, tokenizer, stream)
    # By hand: the first layer's state, the coefficient set, the norm, one matrix product.
    states = {}
    for item in reading.items:
        with torch.no_grad():
            hidden = model.transformer.h[0](embedded(model, item.ids))
        states[item.index] = (hidden[0] if isinstance(hidden, tuple) else hidden)[0, -1]
    for prompt in result["prompt"].to_numpy():
        concept = reading.probes[prompt].concept
        sets = [reading.sets[concept, language] for language in ("python", "php")]
        unit = directions(anatomy, [sets])[0]
        pivots = [
            states[i] for i, p in enumerate(reading.probes) if (p.concept, p.language) == (concept, "python")
        ]
        value = float((torch.stack(pivots) @ unit).mean())
        changed = states[prompt] + (value - float(states[prompt] @ unit)) * unit
        normed = torch.nn.functional.layer_norm(
            changed, changed.shape, model.transformer.ln_f.weight, model.transformer.ln_f.bias
        )
        logits = (normed @ model.lm_head.weight.T).detach().double().numpy()
        found = result.sel(prompt=prompt, intervention="patch")
        np.testing.assert_allclose(found["after"], log_odds(logits, *sets), atol=1e-3)
        np.testing.assert_allclose(found["direct"], log_odds(logits, *sets), atol=1e-3)


def embedded(model, ids):
    ids = torch.as_tensor(ids)[None]
    return model.transformer.wte(ids) + model.transformer.wpe(torch.arange(ids.shape[1])[None])


def test_a_later_block_that_overwrites_the_state_undoes_the_effect(tokenizer, stream, monkeypatch):
    model = make_model("gpt2")
    constant = torch.randn(32)
    block = model.transformer.h[2]
    monkeypatch.setattr(block, "forward", lambda hidden, *_, **__: constant.expand_as(hidden).clone())
    result, _ = measured(Anatomy(model), tokenizer, stream)
    before = result.sel(layer=[1, 2])
    np.testing.assert_allclose(before["after"] - before["before"], 0, atol=1e-5)
    assert float(np.abs(before["direct"] - before["before"]).mean()) > 0.01
    last = result.sel(layer=3)
    np.testing.assert_allclose(last["after"], last["direct"], atol=CLOSE)


def test_nothing_moves_where_the_coefficient_is_there_already(gpt2, tokenizer):
    """Prompts that are all alike hold the same state, in both languages and for all concepts."""
    alike = ProbeSet(tuple(Probe(p.concept, p.language, "n = ", p.identifier) for p in PROBES.probes))
    result, _ = measured(gpt2, tokenizer, PromptStream(alike, background=TEXTS, minimum=FEW))
    np.testing.assert_allclose(result["shift"], 0, atol=1e-4)
    np.testing.assert_allclose(result["after"] - result["before"], 0, atol=1e-3)
    np.testing.assert_allclose(result["null_after"] - result["before"], 0, atol=1e-3)


def test_order_shards_and_rows_at_a_time_do_not_matter(gpt2, tokenizer, stream, monkeypatch):
    one, _ = measured(gpt2, tokenizer, stream)
    monkeypatch.setattr(module, "TOKENS", 50)
    other, _ = measured(gpt2, tokenizer, stream, cuts=4, order=-1)
    assert set(one["prompt"].to_numpy()) == {i for i, p in enumerate(PROBES.probes) if p.language == "php"}
    xr.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_prompts_of_one_token_have_nothing_before_them(tokenizer):
    probes = ProbeSet(tuple(replace(probe, prompt="= ") for probe in PROBES.probes))
    stream = PromptStream(probes, background=TEXTS, minimum=FEW)
    model = make_model("llama")
    result, reading = measured(Anatomy(model), tokenizer, stream)
    assert {len(item.ids) for item in reading.items} == {1}
    prompt = int(result["prompt"][0])
    logits = model(torch.as_tensor(reading.items[prompt].ids)[None]).logits[0, -1].detach().double().numpy()
    sets = [reading.sets[reading.probes[prompt].concept, language] for language in ("python", "php")]
    assert result["before"][0].item() == pytest.approx(log_odds(logits, *sets), abs=CLOSE)


def test_the_model_is_left_as_it_was(gpt2, tokenizer, stream):
    before = {name: value.clone() for name, value in gpt2.model.state_dict().items()}
    measured(gpt2, tokenizer, stream)
    assert all(torch.equal(value, before[name]) for name, value in gpt2.model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in gpt2.blocks)
    assert all(parameter.grad is None for parameter in gpt2.model.parameters())


def test_levels_weigh_both_languages_alike_and_leave_the_own_concept_out():
    coefficient = xr.DataArray(
        [[[1.0, 9.0], [3.0, 9.0], [10.0, 9.0], [20.0, 9.0], [40.0, 9.0], [7.0, 9.0], [8.0, 9.0]]],
        dims=("layer", "prompt", "direction"),
        coords={
            "direction": ["length", "show"],
            "spoken": ("prompt", ["python", "python", "python", "php", "php", "php", "php"]),
            # "loop" tells no languages apart, so that its prompts say nothing about anyone.
            "concept": ("prompt", ["length", "length", "show", "show", "show", "loop", "length"]),
        },
    )
    found = levels(coefficient, pivot="python", target="php")["length"]
    np.testing.assert_allclose(found, [[(10 + (20 + 40) / 2) / 2], [(1 + 3) / 2]])


def test_one_concept_is_not_enough(tokenizer):
    single = ProbeSet(tuple(p for p in PROBES.probes if p.concept == "length"))
    reading = PromptStream(single, background=TEXTS, minimum=FEW).read(tokenizer)
    with pytest.raises(InputError, match=r"tell 'python' from 'php' in this tokenizer: length; give probes"):
        contrasted(reading, pivot="python", target="php")


def test_an_edit_replaces_what_later_blocks_and_observers_see(tiny):
    seen = {}
    tiny.anatomy.run(
        IDS,
        see={Site.RESIDUAL: lambda _site, layer, hidden: seen.__setitem__(layer, hidden)},
        edit={Site.RESIDUAL: lambda layer, hidden: torch.zeros_like(hidden) if layer == 2 else hidden},
    )
    assert not seen[2].any()
    # From a state of zeros every position writes the same, wherever it is.
    torch.testing.assert_close(seen[3][:, 1:], seen[3][:, :1].expand_as(seen[3][:, 1:]), atol=1e-4, rtol=1e-4)
