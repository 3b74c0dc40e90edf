"""What is timed against what, on a GPT-2 of 12 layers × 256 with 50,257 tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.batching import batches
from babelscope.interp.loss import LanguageLoss
from babelscope.interp.measure import Item
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.observe import observe
from babelscope.interp.streams import TextReading, TextStream
from benchmarks.row import Row, Work

WINDOWS, WINDOW, TOKENS = 32, 128, 1 << 12


def small_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_layer=12, n_embd=256, n_head=4, n_positions=WINDOW)).eval()


def _reading(vocabulary: int) -> TextReading:
    rng = np.random.default_rng(0)
    items = [Item(rng.integers(0, vocabulary, WINDOW), i) for i in range(WINDOWS)]
    halves = np.arange(WINDOWS) // (WINDOWS // 2)
    return TextReading(items, ("python", "php"), halves, np.arange(WINDOWS), np.full(WINDOWS, WINDOW))


def _forward(model: GPT2LMHeadModel, reading: TextReading) -> Work:
    def work() -> None:
        with torch.no_grad():
            for batch in batches(reading.items, tokens=TOKENS, device=torch.device("cpu")):
                model.base_model(batch.input_ids, use_cache=False)

    return work


def _observing(*kinds: Any) -> Callable[[], tuple[Work, Work]]:
    def prepare() -> tuple[Work, Work]:
        model = small_gpt2()
        anatomy, reading = Anatomy(model), _reading(model.config.vocab_size)
        stream = TextStream({"python": ["x"], "php": ["y"]})

        def work() -> None:
            observers = [(k.sites, k(stream).observer(anatomy, reading, reading.items)) for k in kinds]
            observe(anatomy, reading.items, observers, tokens=TOKENS)

        return work, _forward(model, reading)

    return prepare


def _loss() -> tuple[Work, Work]:
    model = small_gpt2()
    anatomy, reading = Anatomy(model), _reading(model.config.vocab_size)
    measure = LanguageLoss(TextStream({"python": ["x"], "php": ["y"]}))

    def ours() -> None:
        observer = measure.observer(anatomy, reading, reading.items)
        observe(anatomy, reading.items, [(measure.sites, observer)], tokens=TOKENS)

    def theirs() -> None:
        with torch.no_grad():
            for batch in batches(reading.items, tokens=TOKENS, device=torch.device("cpu")):
                model(batch.input_ids, labels=batch.input_ids, use_cache=False)

    return ours, theirs


ROWS = {
    "firing counts of all neurons / bare forward pass": Row(_observing(TransferringNeurons), 1.5),
    "held-out loss per document / the model's own loss": Row(_loss, 1.25),
}
