"""Batches: whatever the size, every real position reads as if its sequence were alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Site
from babelscope.interp.batching import batches
from babelscope.interp.generation import ROWS, greedy
from babelscope.interp.measure import Item
from babelscope.interp.streams import ProblemStream
from babelscope.probes.problems import Problem
from tests.conftest import VOCABULARY

CPU = torch.device("cpu")


def states(tiny, *, tokens):
    """Every site's state at every real position, by item."""
    found = {}
    for batch in batches(tiny.items, tokens=tokens, device=CPU):

        def keep(site, layer, tensor, batch=batch):
            for row, item in enumerate(batch.items):
                found[site, layer, item.index] = tensor[row][batch.real[row]]

        tiny.anatomy.run(batch.input_ids, see=dict.fromkeys(Site, keep))
    return found


@pytest.mark.parametrize("tokens", [24, 1 << 12])
def test_every_site_reads_the_same_in_any_batch(tiny, tokens):
    alone, together = states(tiny, tokens=1), states(tiny, tokens=tokens)
    assert alone.keys() == together.keys()
    for place, state in alone.items():
        assert len(state) == len(tiny.items[place[2]].ids)
        torch.testing.assert_close(together[place], state, atol=2e-5, rtol=1e-5)


def test_what_the_padding_is_does_not_matter(tiny):
    for batch in batches(tiny.items, tokens=1 << 12, device=CPU):
        other = torch.where(batch.real, batch.input_ids, torch.randint(VOCABULARY, batch.input_ids.shape))
        assert not torch.equal(other, batch.input_ids)
        rows = torch.arange(len(batch.items))
        logits, changed = (tiny.model(ids, use_cache=False).logits for ids in (batch.input_ids, other))
        torch.testing.assert_close(changed[rows, batch.last], logits[rows, batch.last], atol=1e-5, rtol=1e-5)


def test_batches_hold_every_item_once_longest_first_and_no_more_tokens_than_asked():
    rng = np.random.default_rng(0)
    items = [Item(rng.integers(1, 9, n), i) for i, n in enumerate(rng.integers(1, 30, 40))]
    cut = list(batches(items, tokens=64, device=CPU))
    assert sorted(item.index for batch in cut for item in batch.items) == list(range(40))
    lengths = [len(item.ids) for batch in cut for item in batch.items]
    assert lengths == sorted(lengths, reverse=True)
    assert all(batch.input_ids.numel() <= 64 for batch in cut)
    for batch in cut:
        for row, item in enumerate(batch.items):
            assert batch.input_ids[row][batch.real[row]].tolist() == item.ids.tolist()
            assert batch.last[row] == len(item.ids) - 1


def test_a_sequence_longer_than_a_batch_is_a_batch_of_its_own():
    cut = list(batches([Item(np.ones(9), 0), Item(np.ones(8), 1)], tokens=4, device=CPU))
    assert [batch.input_ids.shape for batch in cut] == [(1, 9), (1, 8)]


def test_completions_do_not_depend_on_how_many_are_asked_for(tiny, tokenizer, monkeypatch):
    rng = np.random.default_rng(1)
    items = [Item(rng.integers(1, VOCABULARY, n), i) for i, n in enumerate((4, 6, 4, 4, 6))]
    together = greedy(tiny.anatomy, tokenizer, items, new_tokens=6)
    assert len(items) < ROWS
    monkeypatch.setattr("babelscope.interp.generation.ROWS", 1)
    assert greedy(tiny.anatomy, tokenizer, items, new_tokens=6) == together


def test_completions_are_greedy_whatever_the_checkpoint_says_of_sampling(tiny, tokenizer):
    plain = greedy(tiny.anatomy, tokenizer, tiny.items, new_tokens=6)
    own = tiny.model.generation_config
    own.repetition_penalty, own.num_beams, own.no_repeat_ngram_size = 30.0, 2, 1
    assert greedy(tiny.anatomy, tokenizer, tiny.items, new_tokens=6) == plain
    assert tiny.model.generation_config is own


def test_an_empty_prompt_is_refused_by_its_problem(tokenizer):
    problems = [Problem(name, "php", prompt) for name, prompt in (("a", "x"), ("b", ""), ("c", ""))]
    with pytest.raises(InputError, match="prompts of problems b, c are empty"):
        ProblemStream(SimpleNamespace(problems=problems, key="k")).read(tokenizer)
