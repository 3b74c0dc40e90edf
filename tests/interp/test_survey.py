"""One pass over the vocabulary against the whole of it at once."""

from __future__ import annotations

import pytest
import torch

from babelscope.interp import survey as survey_module
from babelscope.interp.anatomy import Anatomy
from babelscope.interp.lens import Readout
from babelscope.interp.survey import survey


def states(tiny, *, rows=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, tiny.anatomy.unembed.shape[1], generator=generator)


@pytest.mark.parametrize("block", [3, 70, 128, 1024])  # fewer than TOP; last not full; strides; all
def test_blocks_give_what_the_whole_vocabulary_gives(tiny, monkeypatch, block):
    monkeypatch.setattr(survey_module, "BLOCK", block)
    monkeypatch.setattr(survey_module, "STRIDE", 8)
    monkeypatch.setattr(survey_module, "ROWS", 4)
    readout, normed = Readout(tiny.anatomy), states(tiny)
    logits = readout.logits(normed).double()
    marks = logits[:, [3, 250]]
    seen = survey(readout, normed, marks=marks.float())
    expected = logits.log_softmax(-1)
    assert torch.equal(seen.top, logits.topk(5).indices)
    torch.testing.assert_close(
        seen.top_probabilities.double(), expected.exp().topk(5).values, atol=1e-6, rtol=1e-4
    )
    torch.testing.assert_close(seen.normaliser.double(), logits.logsumexp(-1), atol=1e-5, rtol=1e-5)
    entropy = -(expected.exp() * expected).sum(-1)
    torch.testing.assert_close(seen.entropy.double(), entropy, atol=1e-4, rtol=1e-4)
    above = (logits[:, None, :] > marks[:, :, None]).sum(-1)
    assert ((seen.above - above).abs() <= 1).all()  # a tie within rounding


def test_a_certain_state_has_no_entropy_and_an_even_one_the_logarithm_of_the_vocabulary(tiny):
    readout = Readout(tiny.anatomy)
    readout.bias = torch.zeros(readout.vocabulary)
    even = survey(readout, torch.zeros(1, readout.unembed.shape[1]))
    torch.testing.assert_close(even.entropy, torch.tensor([float(readout.vocabulary)]).log())
    readout.bias[7] = 1e4
    certain = survey(readout, torch.zeros(1, readout.unembed.shape[1]), marks=torch.tensor([[0.0]]))
    torch.testing.assert_close(certain.entropy, torch.zeros(1))
    assert (certain.top[0, 0], certain.above[0, 0]) == (7, 1)


def test_large_logits_do_not_overflow(tiny):
    readout, large = Readout(tiny.anatomy), 1e4 * torch.ones(1, tiny.anatomy.unembed.shape[1])
    seen = survey(readout, large)
    assert torch.isfinite(seen.entropy).all()
    assert torch.isfinite(seen.top_probabilities).all()
    assert seen.top[0, 0] == readout.logits(large).argmax()


def test_bfloat16_gives_float32_near_the_exact_one(tiny):
    exact = survey(Readout(tiny.anatomy), states(tiny))
    anatomy = Anatomy(tiny.model.bfloat16())
    rough = survey(Readout(anatomy), states(tiny).bfloat16())
    assert rough.normaliser.dtype == torch.float32
    torch.testing.assert_close(rough.normaliser, exact.normaliser, atol=0.2, rtol=0.02)
