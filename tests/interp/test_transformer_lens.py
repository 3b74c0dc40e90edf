"""TransformerLens as an oracle: the same states, readouts and neurons, found by other code."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest
import torch

from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.lens import LogitLens
from babelscope.interp.transformer_lens import to_transformer_lens
from tests.conftest import byte_tokenizer, make_model

IDS = torch.tensor([[5, 17, 200, 3, 42], [1, 2, 3, 4, 5]])
CLOSE = {"atol": 1e-4, "rtol": 0.0}


@pytest.fixture
def bridge(tiny):
    return to_transformer_lens(tiny.model, byte_tokenizer())


def ours(anatomy):
    found = {}

    def keep(site, layer, tensor):
        found[site, layer] = tensor

    anatomy.run(IDS, see=dict.fromkeys((Site.RESIDUAL, Site.GATE, Site.NEURON), keep))
    return found


def test_residual_streams_and_neurons_agree(tiny, bridge):
    _, cache = bridge.run_with_cache(IDS)
    found = ours(tiny.anatomy)
    for layer in range(tiny.anatomy.n_layers):
        theirs = f"blocks.{layer}"
        torch.testing.assert_close(found[Site.RESIDUAL, layer + 1], cache[f"{theirs}.hook_out"], **CLOSE)
        torch.testing.assert_close(found[Site.GATE, layer], cache[f"{theirs}.mlp.hook_pre"], **CLOSE)
        torch.testing.assert_close(found[Site.NEURON, layer], cache[f"{theirs}.mlp.hook_post"], **CLOSE)


def test_lenses_agree_at_every_layer_and_position(tiny, bridge):
    from transformer_lens.tools.analysis import logit_lens

    readout = logit_lens(bridge, IDS, positions=None, return_type="log_probs").readout
    lens, found = LogitLens(tiny.anatomy), ours(tiny.anatomy)
    for layer in range(1, tiny.anatomy.n_layers + 1):  # theirs begins with the embeddings
        with torch.no_grad():
            mine = lens.logits(found[Site.RESIDUAL, layer]).log_softmax(-1)
        torch.testing.assert_close(mine, readout.values[layer], **CLOSE)
        assert torch.equal(mine.argmax(-1), readout.values[layer].argmax(-1))


def test_our_model_and_tokenizer_are_as_before(tiny):
    tokenizer = byte_tokenizer()
    modules = [(name, type(module)) for name, module in tiny.model.named_modules()]
    weights = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    config, logits = tiny.model.config.to_dict(), tiny.model(IDS).logits
    special = dict(tokenizer.special_tokens_map)
    bridge = to_transformer_lens(tiny.model, tokenizer)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.zero_()
    assert [(name, type(module)) for name, module in tiny.model.named_modules()] == modules
    after = tiny.model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert tiny.model.config.to_dict() == config
    assert torch.equal(tiny.model(IDS).logits, logits)
    assert dict(tokenizer.special_tokens_map) == special


def test_the_import_leaves_loggers_and_warnings_alone(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "transformer_lens"]:
        monkeypatch.delitem(sys.modules, name)
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "level", logging.INFO)
    filters = list(warnings.filters)
    to_transformer_lens(make_model("gpt2"), byte_tokenizer())
    assert "transformer_lens.model_bridge.sources.transformers.source" in sys.modules
    assert logger.level == logging.INFO
    assert list(warnings.filters) == filters


def test_a_checkpoint_of_a_series_becomes_a_bridge(make_run):
    series = Series.open(make_run(steps=(0, 10), family="gpt_neox"))
    bridge = series.at(10).to_transformer_lens(device="cpu")
    model = make_model("gpt_neox", seed=10)
    torch.testing.assert_close(bridge(IDS), model(IDS).logits, **CLOSE)
    assert bridge.tokenizer.decode([50, 51]) == byte_tokenizer().decode([50, 51])
    half = series.at(10).to_transformer_lens(dtype="bfloat16", device="cpu")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_what_cannot_become_a_bridge_is_refused(make_run):
    checkpoint = Series.open(make_run(steps=(0,))).at(0)
    with pytest.raises(InputError, match="torch has no dtype 'float33'"):
        checkpoint.to_transformer_lens(dtype="float33")
    for file in checkpoint.path.glob("*token*"):
        file.unlink()
    with pytest.raises(InputError, match="checkpoint-0 has no tokenizer"):
        checkpoint.to_transformer_lens()


def test_an_architecture_that_transformer_lens_does_not_know_is_refused():
    model = make_model("gpt2")
    model.config.model_type = "unheard_of"

    class Unheard(type(model)):
        pass

    model.__class__ = Unheard
    with pytest.raises(InputError, match="TransformerLens does not know Unheard"):
        to_transformer_lens(model, byte_tokenizer())


def test_a_bridge_of_a_random_model_reads_like_its_anatomy_after_a_swap(tiny):
    """A bridge is a snapshot: swapping weights under our model does not reach it."""
    bridge = to_transformer_lens(tiny.model, byte_tokenizer())
    before = bridge(IDS)
    tiny.model.load_state_dict(make_model(tiny.family, seed=1).state_dict())
    assert torch.equal(bridge(IDS), before)
    assert not torch.allclose(Anatomy(tiny.model).model(IDS).logits, before)
