"""Where the parts are: in the seven families, in one that is registered, and in what has them elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.families import FAMILIES, Names, custom_names, register
from babelscope.interp.lens import LogitLens, check_readout
from tests.conftest import make_model

IDS = torch.tensor([[5, 17, 200, 3, 42], [1, 2, 3, 4, 5]])
DOCUMENT = Path(__file__).parents[2] / "docs" / "architectures.md"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
STRANGERS = {
    "opt": SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "mistral": SMALL | {"num_key_value_heads": 2, "intermediate_size": 48},
    "phi3": SMALL | {"num_key_value_heads": 2, "intermediate_size": 48},
}


@pytest.fixture
def stranger():
    """Makes models of families that are not known; what a test registers is forgotten after it."""
    known = dict(FAMILIES)
    yield lambda kind, **changes: make_model(kind, **STRANGERS[kind] | changes)
    FAMILIES.clear()
    FAMILIES.update(known)


def seen(anatomy, ids=IDS):
    found = {}

    def keep(site, layer, tensor):
        found[site, layer] = tensor

    anatomy.run(ids, see=dict.fromkeys(Site, keep))
    return found


HEADS = dict.fromkeys(FAMILIES, (4, 4, 8)) | {
    "gpt_bigcode": (4, 1, 8),
    "llama": (4, 2, 8),
    "qwen2": (4, 2, 8),
    "starcoder2": (4, 2, 8),
}


def test_heads_are_those_of_the_configuration(tiny):
    heads = tiny.anatomy.heads
    assert (heads.query, heads.key_value, heads.width) == HEADS[tiny.family]


def test_heads_wider_than_their_share_of_the_model_are_read_right():
    heads = Anatomy(make_model("llama", head_dim=16)).heads
    assert (heads.query, heads.key_value, heads.width) == (4, 2, 16)


def test_heads_that_contradict_the_weights_are_refused(tiny):
    tiny.model.config.num_key_value_heads = 3
    with pytest.raises(InputError, match=r"4 query and 3 key-value heads of width 8, but .* projects to \d+"):
        _ = tiny.anatomy.heads


def test_codegens_unembedding_has_a_bias_and_the_lens_adds_it():
    model = make_model("codegen")
    anatomy = Anatomy(model)
    bias = anatomy.unembed_bias
    assert bias is not None
    before = LogitLens(anatomy).logits(torch.ones(32))
    with torch.no_grad():
        bias += 1
    torch.testing.assert_close(LogitLens(anatomy).logits(torch.ones(32)), before + 1)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "codegen"])
def test_the_others_have_none(family):
    assert Anatomy(make_model(family)).unembed_bias is None


def test_the_documented_way_registers_an_architecture(stranger):
    model = stranger("opt")
    with pytest.raises(InputError, match=r"'opt' is not known; known are gpt2.* OPTModel has decoder"):
        Anatomy(model)
    lines = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1]
    assert len(lines.splitlines()) <= 14
    exec(lines, {})  # noqa: S102 - the document is what is tested
    anatomy = Anatomy(model)
    found, own = seen(anatomy), model(IDS, output_hidden_states=True, use_cache=False)
    torch.testing.assert_close(found[Site.RESIDUAL, 1], own.hidden_states[1])
    torch.testing.assert_close(found[Site.FINAL, 2], own.hidden_states[2])
    torch.testing.assert_close(LogitLens(anatomy).logits(found[Site.RESIDUAL, 2]), own.logits)
    for layer in range(2):
        assert found[Site.GATE, layer].shape == (*IDS.shape, 48)  # OPT's own tensors are flattened here
        torch.testing.assert_close(found[Site.GATE, layer].relu(), found[Site.NEURON, layer])
    assert (anatomy.n_layers, anatomy.d_neurons) == (2, 48)
    assert (anatomy.heads.query, anatomy.heads.key_value, anatomy.heads.width) == (4, 4, 8)


@pytest.mark.parametrize(("kind", "like", "heads"), [("gptj", "codegen", 4), ("mistral", "llama", 2)])
def test_an_architecture_with_the_names_of_a_known_one_needs_one_line(stranger, kind, like, heads):
    register(kind, FAMILIES[like])
    model = stranger(kind)
    anatomy = Anatomy(model)
    assert check_readout(anatomy, IDS) < 1e-4
    assert anatomy.heads.key_value == heads
    assert (anatomy.unembed_bias is not None) == (kind == "gptj")


def test_a_fused_gate_is_refused(stranger):
    register("phi3", Names("layers", "norm", "mlp.gate_up_proj", "mlp.down_proj", "self_attn.o_proj"))
    with pytest.raises(InputError, match=r"'mlp.gate_up_proj' has 96 outputs for the 48 neurons"):
        Anatomy(stranger("phi3"))


OPT = {"blocks": "decoder.layers", "norm": "decoder.final_layer_norm", "gate": "fc1", "down": "fc2"}
OPT |= {"heads": "self_attn.out_proj"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"blocks": "layers"}, "'opt' blocks: no 'layers', since OPTModel has no 'layers', only decoder"),
        ({"blocks": "decoder"}, "'opt' blocks 'decoder' is a OPTDecoder, not a list of blocks"),
        ({"norm": "decoder.norm"}, "OPTDecoder has no 'norm', only embed_tokens, embed_positions, "),
        (
            {"gate": "mlp.fc1"},
            "'opt' gate in block 0: no 'mlp.fc1', since OPTDecoderLayer has no 'mlp', ",
        ),
        ({"down": "self_attn"}, "'self_attn' is a OPTAttention of k_proj, v_proj, q_proj, out_proj, not a"),
        (
            {"heads": "self_attn.o_proj"},
            "OPTAttention has no 'o_proj', only k_proj, v_proj, q_proj",
        ),
    ],
)
def test_a_missing_part_is_named_with_what_is_there_instead(stranger, wrong, words):
    register("opt", Names(**OPT | wrong))
    with pytest.raises(InputError, match=re.escape(words)) as refused:
        Anatomy(stranger("opt"))
    assert "\n" not in str(refused.value)


def test_an_architecture_without_a_final_norm_is_refused(stranger):
    register("opt", Names(**OPT))
    with pytest.raises(InputError, match=r"'opt' norm: .* OPTDecoder has no 'final_layer_norm'"):
        Anatomy(stranger("opt", do_layer_norm_before=False))


def test_a_model_without_an_unembedding_is_refused(tiny):
    with pytest.raises(InputError, match=r"has no unembedding, only .* load it with AutoModelForCausalLM"):
        Anatomy(tiny.model.base_model)


def test_registered_names_are_part_of_the_key_of_results(stranger):
    from babelscope.analyses.executor import Executor
    from tests.questions import every_measure

    measure = every_measure()[0]

    def key(kind):
        series = SimpleNamespace(config={"model_type": kind}, tokenizer_hash="t")
        return Executor(None, [measure], series).key(measure, "f")

    assert custom_names("gpt2") == {} == custom_names("opt")
    register("opt", Names(**OPT | {"gate": "fc2"}))
    wrong, gpt2 = key("opt"), key("gpt2")
    register("opt", Names(**OPT))
    assert key("opt") != wrong
    assert key("gpt2") == gpt2


def test_hooks_leave_no_trace(tiny):
    hooks = [m for m in tiny.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    before = tiny.model(IDS).logits
    seen(tiny.anatomy)

    def fails(_site, _layer, _tensor):
        raise RuntimeError("an observer failed")

    with pytest.raises(RuntimeError, match="an observer failed"):
        tiny.anatomy.run(IDS, see={Site.GATE: fails, Site.RESIDUAL: fails})
    assert [m for m in tiny.model.modules() if m._forward_hooks or m._forward_pre_hooks] == hooks
    assert torch.equal(tiny.model(IDS).logits, before)
