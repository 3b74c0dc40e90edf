"""Likelihood of a text after a context, against the model's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.continuation import Continuation, ContinuationLoss, ContinuationStream
from tests.interp.test_measures import measured

ASKED = (
    Continuation("n = ", "len(xs)\n", "a", "python", "solution"),
    Continuation("$n = count(", "$xs);\n", "a", "php", "translation", "python"),
    Continuation("é", "ü = 1\n", "b", "python", "solution"),
    Continuation("x", "y", "c", "python", "broken"),
)


def test_it_is_the_models_own_probability_of_the_text_after_the_context(tiny, tokenizer):
    result, _ = measured(tiny, tokenizer, ContinuationLoss(ContinuationStream(ASKED, context=64)), cuts=2)
    for place, one in enumerate(ASKED):
        ids = tokenizer(one.context + one.text, return_tensors="pt")["input_ids"]
        whole = tiny.model(ids).logits[0].double().log_softmax(-1)
        # A byte-level token is written with one character per byte.
        ends = np.cumsum([len(token) for token in tokenizer.convert_ids_to_tokens(ids[0].tolist())])
        of_text = [n for n, end in enumerate(ends) if end > len(one.context.encode())]
        expected = -sum(whole[n - 1, ids[0, n]].item() for n in of_text)
        assert result["nll"][place].item() == pytest.approx(expected, rel=1e-4)
        assert result["tokens"][place].item() == len(of_text)
        assert result["bytes"][place].item() == len(one.text.encode())


def test_labels_come_with_the_losses(tiny, tokenizer):
    result, _ = measured(tiny, tokenizer, ContinuationLoss(ContinuationStream(ASKED, context=64)))
    assert result["role"].to_numpy().tolist() == [one.role for one in ASKED]
    assert result["source"].to_numpy().tolist() == ["", "python", "", ""]
    assert result["id"].to_numpy().tolist() == ["a", "a", "b", "c"]


def test_a_problem_that_is_too_long_somewhere_is_dropped_everywhere(tokenizer):
    long = Continuation("x" * 80, "y", "a", "php", "broken")
    reading = ContinuationStream((*ASKED, long), context=64).read(tokenizer)
    assert {one.id for one in reading.asked} == {"b", "c"}
    assert reading.dropped == ("a: longer than the model's 64 tokens",)


def test_texts_that_are_all_too_long_are_refused(tokenizer):
    with pytest.raises(InputError, match="all 3 problems"):
        ContinuationStream(ASKED, context=1).read(tokenizer)


def test_problems_without_solutions_are_refused():
    with pytest.raises(InputError, match="come without"):
        ContinuationStream((), context=64)


def test_what_decides_the_losses_is_in_the_key():
    assert ContinuationStream(ASKED, context=64).key != ContinuationStream(ASKED[:3], context=64).key
    assert ContinuationStream(ASKED, context=64).key != ContinuationStream(ASKED, context=32).key


def test_losses_do_not_depend_on_the_tokens_at_once(tiny, tokenizer, monkeypatch):
    measure = ContinuationLoss(ContinuationStream(ASKED, context=64))
    whole, _ = measured(tiny, tokenizer, measure)
    monkeypatch.setattr("babelscope.interp.token_loss.LOGITS_AT_ONCE", 1)
    again, _ = measured(tiny, tokenizer, measure, tokens=1)
    np.testing.assert_allclose(again["nll"], whole["nll"], rtol=1e-5)
    assert torch.is_inference_mode_enabled() is False
