"""Totals are exact: whatever was counted before, however long the text, and after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from babelscope.analyses import executor as executor_module
from babelscope.analyses.store import Store
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.series import Series
from babelscope.interp.batching import Batch, batches
from babelscope.interp.measure import Item
from babelscope.interp.neuron_totals import BLOCKS, Totals
from babelscope.interp.neurons import PIECE, TransferringNeurons
from babelscope.interp.streams import TextReading, TextStream
from tests.questions import TEXTS

COUNTING = TransferringNeurons(TextStream(TEXTS))


def reading_of(*lengths: int, language=None) -> TextReading:
    items = [Item(np.full(length, 1), index) for index, length in enumerate(lengths)]
    language = np.zeros(len(items), int) if language is None else np.array(language)
    return TextReading(items, ("python", "php"), language, np.arange(len(items)), np.array(lengths))


def batch_of(reading: TextReading) -> Batch:
    (batch,) = batches(reading.items, tokens=1 << 30, device=torch.device("cpu"))
    return batch


@pytest.mark.parametrize("before", [2**24, 2**31 - 1])
def test_counters_go_on_by_one(before):
    reading = reading_of(1, language=[1])
    totals = Totals(reading, layers=1, neurons=3, dtype=np.int64)
    totals.total[:] = before
    totals.tokens[:] = before
    for _ in range(3):
        totals.add(0, torch.tensor([[1.0, 0.0, 1.0]]), batch_of(reading))
    found = totals.result()
    assert found["total"][1, 0, 0].to_numpy().tolist() == [before + 3, before, before + 3]
    assert found["tokens"][1, 0] == before + 3
    assert (found["total"][0] == before).all()


def test_a_batch_that_fills_the_float_is_still_counted_exactly():
    reading = reading_of(1, 1, 1)
    totals = Totals(reading, layers=1, neurons=1, dtype=np.int64)
    totals.group_of[:] = 0
    totals.add(0, torch.tensor([[5_592_405.0], [5_592_405.0], [5_592_405.0]]), batch_of(reading))
    assert totals.total.sum() == 2**24 - 1


@pytest.mark.parametrize("positions", [3, PIECE // 2 + 1, PIECE + 7])
def test_firing_is_counted_at_every_position_of_a_row_however_long(positions):
    rng = np.random.default_rng(0)
    reading = reading_of(positions, max(1, positions - 2), language=[0, 1])
    batch = batch_of(reading)
    gate = torch.as_tensor(rng.standard_normal((2, positions, 2)), dtype=torch.float32)
    counts = COUNTING.contribution(None)(0, gate, batch)  # pyright: ignore[reportArgumentType]
    lengths = [positions, max(1, positions - 2)]
    expected = [(gate[row, :length] > 0).sum(0).tolist() for row, length in enumerate(lengths)]
    assert counts.tolist() == expected


@pytest.mark.parametrize("tiny", ["gpt2"], indirect=True)
def test_padding_never_counts(tiny):
    """What stands at padding is made to fire everywhere, and the totals are those of the rows alone."""
    reading = reading_of(*(len(item.ids) for item in tiny.items), language=[0, 1, 0, 1, 1])
    observer = COUNTING.observer(tiny.anatomy, reading, reading.items)
    alone = COUNTING.observer(tiny.anatomy, reading, reading.items)
    gate = torch.randn(len(tiny.items), 12, tiny.anatomy.d_neurons)
    batch = batch_of(reading)
    gate[~batch.real] = 1
    for layer in range(tiny.anatomy.n_layers):
        observer.see("gate", layer, gate, batch)  # pyright: ignore[reportArgumentType]
        for row, item in enumerate(batch.items):
            one = Batch(
                batch.input_ids[row : row + 1], torch.ones(1, len(item.ids), dtype=torch.bool), [item]
            )
            alone.see("gate", layer, gate[row : row + 1, : len(item.ids)], one)  # pyright: ignore[reportArgumentType]
    xr.testing.assert_identical(observer.result(), alone.result())
    assert observer.result()["tokens"].sum("block").to_numpy().tolist() == [10, 33]


def test_a_languages_windows_fill_its_blocks_in_order_and_evenly():
    reading = reading_of(*[5] * 20, *[5] * 16, language=[0] * 20 + [1] * 16)
    totals = Totals(reading, layers=1, neurons=1)
    of_python, of_php = totals.group_of[:20], totals.group_of[20:] - BLOCKS
    for groups, least in ((of_python, 2), (of_php, 2)):
        assert (np.diff(groups) >= 0).all()
        sizes = np.bincount(groups, minlength=BLOCKS)
        assert len(sizes) == BLOCKS
        assert least <= sizes.min() <= sizes.max() <= 3


class Dies(TransferringNeurons):
    """Counts, and is killed in the third shard, in the middle of a forward pass."""

    started = 0

    def observer(self, anatomy, reading, shard):
        Dies.started += 1
        observer = super().observer(anatomy, reading, shard)
        if Dies.started == 3:
            contribution = observer.contribution

            def dying(layer, tensor, batch):
                if layer == 1:
                    raise KeyboardInterrupt
                return contribution(layer, tensor, batch)

            object.__setattr__(observer, "contribution", dying)
        return observer


def test_an_interrupted_count_goes_on_at_its_shard_and_is_exact(make_run, monkeypatch):
    monkeypatch.setattr(executor_module, "OBSERVED", 16)
    series = Series.open(make_run(steps=(0,)), pivot="python", target="php")
    stream = TextStream(TEXTS, tokens=60, window=8)
    counting = TransferringNeurons(stream)
    counting.random_init = False  # pyright: ignore[reportAttributeAccessIssue]
    whole = sweep(series, [counting], store=Store(series.state / "whole"))["transferring_neurons"]
    dies = Dies(stream)
    dies.random_init = False  # pyright: ignore[reportAttributeAccessIssue]
    store = Store(series.state / "killed")
    with pytest.raises(KeyboardInterrupt):
        sweep(series, [dies], store=store)

    shards = []

    def observing(self, anatomy, reading, shard, observer=TransferringNeurons.observer):
        shards.append([item.index for item in shard])
        return observer(self, anatomy, reading, shard)

    monkeypatch.setattr(TransferringNeurons, "observer", observing)
    again = sweep(series, [counting], store=store)["transferring_neurons"]
    xr.testing.assert_identical(again, whole)
    counted = [index for shard in shards if shard for index in shard]
    reading = stream.read(series.tokenizer)
    firsts = executor_module.shards(reading.items, tokens=16)[:2]
    assert not {item.index for shard in firsts for item in shard} & set(counted)
    assert len(counted) == len(reading.items) - sum(map(len, firsts))
    assert again["total"].dtype == np.int64
