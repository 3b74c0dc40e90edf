"""The lens against what must be true of any readout."""

from __future__ import annotations

import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.lens import LogitLens, Readout, check_readout, log_mean_exp

IDS = torch.tensor([[5, 17, 200, 3, 42]])


def residuals(anatomy):
    seen = {}
    anatomy.run(IDS, see={Site.RESIDUAL: lambda _site, layer, hidden: seen.__setitem__(layer, hidden)})
    return seen


def test_last_layer_reads_as_the_model_itself(tiny):
    read = LogitLens(tiny.anatomy).logits(residuals(tiny.anatomy)[3])
    torch.testing.assert_close(read, tiny.model(IDS).logits, atol=1e-4, rtol=1e-4)


def test_earlier_layers_read_as_a_model_cut_there(tiny):
    """Independent of any hook: drop the later blocks and run what is left."""
    read = LogitLens(tiny.anatomy).logits(residuals(tiny.anatomy)[2])
    blocks = tiny.anatomy.base
    name = "h" if hasattr(blocks, "h") else "layers"
    setattr(blocks, name, getattr(blocks, name)[:2])
    tiny.model.config.num_hidden_layers = 2
    torch.testing.assert_close(read, tiny.model(IDS, use_cache=False).logits, atol=1e-4, rtol=1e-4)


def test_columns_are_a_slice_of_the_whole(tiny):
    hidden, some = residuals(tiny.anatomy)[1], torch.tensor([3, 1, 4])
    lens = LogitLens(tiny.anatomy)
    torch.testing.assert_close(lens.logits(hidden, tokens=some), lens.logits(hidden)[..., some])


def test_columns_are_float32_whatever_the_models_type(tiny):
    some = torch.tensor([3, 1, 4])
    expected = LogitLens(tiny.anatomy).logits(residuals(tiny.anatomy)[1], tokens=some)
    half = LogitLens(Anatomy(tiny.model.bfloat16()))
    normed = half.norm(residuals(tiny.anatomy)[1])
    read = Readout(tiny.anatomy).logits(normed, tokens=some)
    assert read.dtype == torch.float32
    exact = normed.double() @ tiny.anatomy.unembed[some].double().T
    bias = tiny.anatomy.unembed_bias
    exact += 0 if bias is None else bias[some].double()
    torch.testing.assert_close(read.double(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read, expected, atol=0.1, rtol=0.1)


def test_readout_check_sees_a_model_that_does_more_than_norm_and_unembed(tiny):
    assert check_readout(tiny.anatomy, IDS) < 1e-3
    tiny.model.register_forward_hook(lambda _m, _i, out: setattr(out, "logits", out.logits * 1.5))
    with pytest.raises(InputError, match="differs from the model's logits"):
        check_readout(tiny.anatomy, IDS)


def test_a_set_is_as_strong_as_its_mean_member_whatever_its_size():
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    one, three = log_mean_exp(logits, torch.tensor([1])), log_mean_exp(logits, torch.tensor([1, 2, 3]))
    torch.testing.assert_close(one, three)
    mixed = log_mean_exp(logits, torch.tensor([0, 1]))
    torch.testing.assert_close(mixed, torch.tensor([(torch.e + 1) / 2]).log())


def test_a_model_in_training_mode_is_refused(tiny):
    with pytest.raises(InputError, match="training mode"):
        Anatomy(tiny.model.train())


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "opt", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16
    )
    with pytest.raises(InputError, match="'opt' is not known; known are gpt2"):
        Anatomy(AutoModelForCausalLM.from_config(config).eval())
