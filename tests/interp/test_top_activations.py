"""The largest outputs against a loop over sequences that are run one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.observe import observe
from babelscope.interp.streams import TextStream
from babelscope.interp.top_activations import TOP, TopActivations
from tests.conftest import make_model
from tests.questions import TEXTS

RNG = np.random.default_rng(0)
MANY = {  # documents of unequal length, no two windows alike
    language: ["".join(RNG.choice([*text], size)) for text in texts for size in (9, 31, 22, 40)]
    for language, texts in TEXTS.items()
}


def measured(anatomy, tokenizer, stream, *, tokens=64, cuts=2):
    """What the executor does, without its store, in several shards of small batches."""
    measure, reading = TopActivations(stream), stream.read(tokenizer)
    parts = []
    for some in np.array_split(np.arange(len(reading.items)), cuts):
        items = [reading.items[i] for i in some]
        observer = measure.observer(anatomy, reading, items)
        observe(anatomy, items, [(measure.sites, observer)], tokens=tokens)
        parts.append(observer.result())
    return measure.combine(parts, reading), reading


def outputs_of(tiny, item):
    """(layer, position, neuron): what each down-projection was given."""
    seen = []
    handles = [
        down.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].reshape(len(item.ids), -1)))
        for down in tiny.anatomy.downs
    ]
    tiny.model(torch.as_tensor(item.ids)[None], use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(seen).detach().numpy()


def test_the_top_windows_are_those_of_a_loop_over_unpadded_sequences(tiny, tokenizer):
    found, reading = measured(tiny.anatomy, tokenizer, TextStream(MANY, tokens=150, window=16))
    assert len({len(item.ids) for item in reading.items}) > 3  # some rows were padded
    for which in range(2):
        items = [item for item in reading.items if reading.language[item.index] == which]
        assert len(items) > TOP
        runs = [outputs_of(tiny, item)[:, 1:] for item in items]  # without the first position
        largest = np.sort([np.abs(run).max(1) for run in runs], axis=0)[::-1][:TOP]  # (rank, layer, neuron)
        own = found.isel(language=which).transpose("rank", "layer", "neuron", ...)
        np.testing.assert_allclose(np.abs(own["value"]), largest, rtol=2e-3, atol=1e-5)
        # Where it says they are, they are: with their sign, in windows of this language, each but once.
        by_window = {item.index: run for item, run in zip(items, runs, strict=True)}
        for cell in np.ndindex(own["value"].shape):
            _, layer, neuron = cell
            run = by_window[int(own["window"].values[cell])]
            value = run[layer, int(own["position"].values[cell]) - 1, neuron]
            assert own["value"].values[cell] == pytest.approx(value, rel=2e-3, abs=1e-5)
        windows = own["window"].to_numpy()
        assert all((windows[i] != windows[j]).all() for i in range(TOP) for j in range(i))


@pytest.mark.parametrize(("tokens", "cuts"), [(1, 1), (4096, 1), (40, 5)])
def test_neither_batches_nor_shards_show_in_the_result(tokenizer, tokens, cuts):
    anatomy, stream = Anatomy(make_model("llama")), TextStream(MANY, tokens=150, window=16)
    expected, _ = measured(anatomy, tokenizer, stream)
    found, _ = measured(anatomy, tokenizer, stream, tokens=tokens, cuts=cuts)
    np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-4, atol=1e-6)
    assert (found["window"] == expected["window"]).mean() > 0.99  # all but ties within rounding


def test_a_language_of_few_windows_leaves_ranks_empty_and_the_text_goes_with_the_result(tokenizer):
    stream = TextStream({"python": TEXTS["python"][:1], "php": TEXTS["php"]}, tokens=20, window=16)
    found, reading = measured(Anatomy(make_model("gpt2")), tokenizer, stream, cuts=1)
    read = [int((reading.language == which).sum()) for which in (0, 1)]
    assert read[0] == 2 < TOP
    assert (found["window"].sel(language="python").isel(rank=slice(2, None)) == -1).all()
    assert np.isnan(found["value"].sel(language="python").isel(rank=2)).all()
    assert np.isfinite(found["value"].sel(language="python").isel(rank=[0, 1])).all()
    for item in reading.items:
        row = found["token"].isel(text=item.index).to_numpy()
        assert row[: len(item.ids)].tolist() == item.ids.tolist()
        assert (row[len(item.ids) :] == -1).all()
