"""Batches: whatever the size, every real position reads as if its sequence were alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelscope.interp.anatomy import Site
from babelscope.interp.batching import batches
from babelscope.interp.measure import Item
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
