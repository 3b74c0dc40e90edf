"""Attention as it is read must be the model's own; what is read wrong must be refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.attention import Attention
from babelscope.interp.families import FAMILIES, Projections, register
from babelscope.interp.plnd import PlndFfn, PlndKey, PlndQuery, PlndValue
from babelscope.interp.streams import TextStream
from tests.conftest import make_model
from tests.questions import TEXTS

IDS = torch.tensor([[5, 17, 200, 3, 42, 9, 8, 7], [1, 2, 3, 4, 5, 6, 7, 8]])
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}


@pytest.fixture
def families():
    """What a test registers is forgotten after it."""
    known = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(known)


def test_the_heads_are_the_models_own(tiny):
    assert Attention(tiny.anatomy).check(IDS) < 1e-5


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt2", {"reorder_and_upcast_attn": True, "scale_attn_weights": False}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}),
        ("gpt_bigcode", {"scale_attn_weights": False}),
        ("starcoder2", {"sliding_window": 3}),
    ],
)
def test_what_a_configuration_changes_is_taken_from_the_model(family, changes):
    assert Attention(Anatomy(make_model(family, **changes))).check(IDS) < 1e-5


def test_in_bfloat16_they_agree_as_far_as_it_goes(tiny):
    assert Attention(Anatomy(tiny.model.bfloat16())).check(IDS) < 2e-2


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        ("gpt_neox", {"order": "parts"}),
        ("codegen", {"order": "heads"}),
        ("codegen", {"rotary": "halves"}),
        ("llama", {"rotary": None}),
        ("llama", {"modules": ("self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj")}),
    ],
)
def test_attention_that_is_read_wrong_is_refused(families, family, wrong):
    changes = {"num_key_value_heads": 4} if family == "llama" else {}
    model = make_model(family, **changes)
    if wrong.get("rotary") == "halves":
        model.base_model.rotary_emb = lambda x, positions: (torch.ones(1, len(positions[0]), 4),) * 2
    register(family, replace(FAMILIES[family], projections=replace(FAMILIES[family].projections, **wrong)))
    with pytest.raises(
        InputError, match=rf"attention of '{family}' is not as expected: in block 0 its heads"
    ):
        Attention(Anatomy(model)).check(IDS)


@pytest.mark.parametrize("measure", [PlndQuery, PlndKey])
def test_a_family_without_projections_is_refused_before_a_pass(families, tokenizer, measure):
    register("mistral", replace(FAMILIES["llama"], projections=None))
    model = make_model("mistral", **SMALL, num_key_value_heads=2, intermediate_size=48)
    model.forward = model.base_model.forward = None
    stream = TextStream(TEXTS, tokens=30, window=16)
    reading = stream.read(tokenizer)
    with pytest.raises(InputError, match="where 'mistral' has its queries, keys and values is not known"):
        measure(stream).observer(Anatomy(model), reading, reading.items)


def test_values_and_neurons_of_the_mlp_need_no_projections(families, tokenizer):
    register("mistral", replace(FAMILIES["llama"], projections=None))
    model = make_model("mistral", **SMALL, num_key_value_heads=2, intermediate_size=48)
    stream = TextStream(TEXTS, tokens=30, window=16)
    for measure, neurons in ((PlndFfn(stream), 48), (PlndValue(stream), 16)):
        reading = stream.read(tokenizer)
        assert measure.observer(Anatomy(model), reading, reading.items).result().sizes["neuron"] == neurons


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("attn.qkv", r"'gpt2' query in block 0: no 'attn.qkv': .*qkv"),
        ("mlp", "'mlp' is a GPT2MLP, not linear"),
    ],
)
def test_projections_that_are_not_there_are_named(families, path, words):
    register("gpt2", replace(FAMILIES["gpt2"], projections=Projections((path,))))
    with pytest.raises(InputError, match=words):
        Attention(Anatomy(make_model("gpt2")))


def test_an_architecture_that_takes_over_a_known_ones_projections_is_read_right(families):
    register("mistral", FAMILIES["llama"])
    model = make_model("mistral", **SMALL, num_key_value_heads=2, intermediate_size=48, sliding_window=3)
    assert Attention(Anatomy(model)).check(IDS) < 1e-5


def test_what_goes_into_the_attention_and_its_output_projection_is_seen(tiny):
    seen = {}
    tiny.anatomy.run(
        IDS, see=dict.fromkeys((Site.ATTENTION, Site.HEADS), lambda *at: seen.update({at[:2]: at[2]}))
    )
    for layer, output in enumerate(tiny.anatomy.attention_outputs):
        assert seen[Site.ATTENTION, layer].shape == seen[Site.HEADS, layer].shape == (2, 8, 32)
        kept = []
        handle = output.register_forward_pre_hook(lambda _m, inputs, kept=kept: kept.append(inputs[0]))
        tiny.model(IDS, use_cache=False)
        handle.remove()
        torch.testing.assert_close(seen[Site.HEADS, layer], kept[0].reshape(2, 8, 32))
