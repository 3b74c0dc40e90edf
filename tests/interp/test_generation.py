"""What a model writes is what it would write alone, and is cut, sampled and marked as asked."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.generation import Sampling, complete
from babelscope.interp.measure import Item
from babelscope.interp.problem_scores import Completions, ProblemScores
from babelscope.interp.streams import ProblemStream
from babelscope.probes.problems import Problem
from tests.conftest import VOCABULARY
from tests.questions import Echo

SAMPLED = Sampling(samples=3, temperature=1.0, seed=5)


def written(tiny, tokenizer, items, *, new_tokens=6, problem=None, **how):
    problems = [replace(problem or Problem("p", "php", "x"), id=str(item.index)) for item in items]
    return [
        one.text for one in complete(tiny.anatomy, tokenizer, items, problems, new_tokens=new_tokens, **how)
    ]


def items_of(*lengths, seed=1):
    rng = np.random.default_rng(seed)
    return [Item(rng.integers(1, VOCABULARY, n), i) for i, n in enumerate(lengths)]


def alone(tiny, tokenizer, item, *, new_tokens):
    """The continuation by the argmax of whole forward passes: no cache, no padding."""
    ids = torch.as_tensor(item.ids)[None]
    for _ in range(new_tokens):
        ids = torch.cat([ids, tiny.model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        if ids[0, -1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[0, len(item.ids) :], skip_special_tokens=True)


def test_padded_completions_are_those_of_one_prompt_at_a_time_without_a_cache(tiny, tokenizer):
    items = items_of(4, 11, 1, 7, 4)
    expected = [alone(tiny, tokenizer, item, new_tokens=6) for item in items]
    assert written(tiny, tokenizer, items) == expected


def test_completions_do_not_depend_on_how_many_are_written_together(tiny, tokenizer, monkeypatch):
    items = items_of(4, 6, 4, 9)
    together = written(tiny, tokenizer, items)
    monkeypatch.setattr("babelscope.interp.generation.TOKENS", 1)
    assert written(tiny, tokenizer, items) == together


def test_completions_are_greedy_whatever_the_checkpoint_says_of_sampling(tiny, tokenizer):
    plain = written(tiny, tokenizer, tiny.items)
    own = tiny.model.generation_config
    own.repetition_penalty, own.num_beams, own.no_repeat_ngram_size = 30.0, 2, 1
    assert written(tiny, tokenizer, tiny.items) == plain
    assert tiny.model.generation_config is own


def test_a_row_that_has_ended_is_cut_and_does_not_change_the_others(tiny, tokenizer):
    items = items_of(4, 11, 7)
    whole = written(tiny, tokenizer, items, new_tokens=24)
    mark = whole[1][3:5]
    ending = Problem("p", "php", "x", stop=(mark,))
    found = complete(tiny.anatomy, tokenizer, items, [ending] * 3, new_tokens=24)
    for one, text in zip(found, whole, strict=True):
        assert one.text == text.partition(mark)[0]
        assert one.ended == (mark in text) or len(text) < 24


def test_a_batch_stops_when_all_of_its_rows_have_ended(tiny, tokenizer, monkeypatch):
    items = items_of(4, 4)
    whole = written(tiny, tokenizer, items, new_tokens=40)
    ending = [Problem("p", "php", "x", stop=(text[:2],)) for text in whole]
    lengths = []
    generate = tiny.model.generate
    monkeypatch.setattr(
        tiny.model, "generate", lambda **how: lengths.append((out := generate(**how)).shape[1] - 4) or out
    )
    complete(tiny.anatomy, tokenizer, items, ending, new_tokens=40)
    assert lengths[0] < 20


def test_samples_differ_repeat_by_seed_and_leave_other_draws_alone(tiny, tokenizer):
    items = items_of(4, 6)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = written(tiny, tokenizer, items, sampling=SAMPLED)
    assert torch.equal(torch.rand(3), expected)
    assert len(first) == 6
    assert len(set(first)) > 2
    assert written(tiny, tokenizer, items, sampling=SAMPLED) == first
    assert written(tiny, tokenizer, items, sampling=replace(SAMPLED, seed=6)) != first


def test_sampled_tokens_have_the_models_own_frequencies(tiny, tokenizer):
    item = items_of(5)[0]
    sampling = Sampling(samples=2000, temperature=0.5, top_p=1.0)
    texts = written(tiny, tokenizer, [item], new_tokens=1, sampling=sampling)
    logits = tiny.model(torch.as_tensor(item.ids)[None]).logits[0, -1].double() / 0.5
    probability = logits.softmax(-1).detach().numpy()
    by_text: dict[str, float] = {}
    for token, share in enumerate(probability):
        text = tokenizer.decode([token], skip_special_tokens=True)
        by_text[text] = by_text.get(text, 0) + share
    for text, share in sorted(by_text.items(), key=lambda pair: -pair[1])[:3]:
        error = 4 * np.sqrt(share * (1 - share) / 2000)
        assert texts.count(text) / 2000 == pytest.approx(share, abs=error + 1e-3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"samples": 4}, "4 greedy completions"),
        ({"samples": 0}, "at least one sample"),
        ({"temperature": -0.1}, "a temperature from 0 up"),
        ({"top_p": 0.0}, "0 < top_p"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(values, words):
    with pytest.raises(InputError, match=words):
        Sampling(**values)


def test_a_prompt_is_completed_within_what_the_context_leaves(tiny, tokenizer):
    item = items_of(tiny.model.config.max_position_embeddings - 4)[0]
    assert written(tiny, tokenizer, [item], new_tokens=50) == [alone(tiny, tokenizer, item, new_tokens=4)]


def test_a_prompt_that_fills_the_context_is_named(tiny, tokenizer):
    context = tiny.model.config.max_position_embeddings
    with pytest.raises(
        InputError, match=rf"prompt of 1 in php has {context} tokens, .* context is {context}"
    ):
        written(tiny, tokenizer, items_of(5, context))


def test_scores_are_derived_from_stored_completions_alone(tiny, tokenizer):
    measure = ProblemScores(ProblemStream(Echo()))
    asked = measure.source
    reading = asked.stream.read(tokenizer)
    parts = [asked.drive(tiny.anatomy, tokenizer, reading, [item]) for item in reversed(reading.items)]
    found = asked.combine(parts, reading)
    advanced = []
    result = measure.derive(found, advance=advanced.append)
    assert result["id"].to_numpy().tolist() == ["0", "1", "2", "3"]
    expected = [[len(text) % 2 == 0] for (text,) in found["completion"].to_numpy()]
    assert result["solved"].to_numpy().tolist() == expected
    assert result["ran"].all()
    assert sum(advanced) == 4


def test_completions_of_other_samplings_are_other_results():
    stream = ProblemStream(Echo())
    assert Completions(stream).config != Completions(stream, SAMPLED).config
    assert Completions(stream).config == Completions(ProblemStream(Echo())).config


def test_an_empty_prompt_is_refused_by_its_problem(tokenizer):
    problems = [Problem(name, "php", prompt) for name, prompt in (("a", "x"), ("b", ""), ("c", ""))]
    with pytest.raises(InputError, match="prompts of problems b, c are empty"):
        ProblemStream(SimpleNamespace(problems=problems, key="k")).read(tokenizer)
