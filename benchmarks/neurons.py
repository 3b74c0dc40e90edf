"""Scores of all 36,864 neurons of the 124 M GPT-2: beside bare forward passes, and the two usual ways."""

from __future__ import annotations

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.attribution import GradientAttribution
from babelscope.interp.batching import Batch, batches
from babelscope.interp.measure import Item
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.observe import observe
from babelscope.interp.plnd import PlndFfn
from babelscope.interp.streams import TextReading, TextStream
from benchmarks.row import Row, Work
from benchmarks.series import LANGUAGES

WINDOWS, LENGTH, TOKENS = 8, 512, 1 << 12
ABLATED = 2  # neurons that are ablated; the time of all is a multiple


def _reading() -> TextReading:
    """Windows of random tokens; what they say decides nothing about the time."""
    rng = np.random.default_rng(0)
    items = [Item(rng.integers(0, GPT2Config().vocab_size, LENGTH), n) for n in range(WINDOWS)]
    rows = np.arange(WINDOWS)
    return TextReading(items, LANGUAGES, np.sort(rows % 2), rows, np.full(WINDOWS, LENGTH))


def _batches() -> list[Batch]:
    return list(batches(_reading().items, tokens=TOKENS, device=torch.device("cpu")))


def _anatomy() -> Anatomy:
    torch.manual_seed(0)
    return Anatomy(GPT2LMHeadModel(GPT2Config()).eval().requires_grad_(False))


def _stream() -> TextStream:
    return TextStream({language: ["x"] for language in LANGUAGES})


def _seen(anatomy: Anatomy) -> Work:
    """How often each fires and PLND's importance, in one forward pass."""
    reading, measures = _reading(), (TransferringNeurons(_stream()), PlndFfn(_stream()))

    def work() -> None:
        looking = [(m.sites, m.observer(anatomy, reading, reading.items)) for m in measures]
        observe(anatomy, reading.items, looking, tokens=TOKENS)

    return work


def _attributed(anatomy: Anatomy) -> Work:
    reading = _reading()
    return lambda: GradientAttribution(_stream()).drive(anatomy, None, reading, reading.items)


def _forward(anatomy: Anatomy) -> Work:
    """The model as it is, logits and all."""

    def work() -> None:
        with torch.no_grad():
            for batch in _batches():
                for ids in batch.input_ids.split(2):  # logits of all at once would swap
                    anatomy.model(ids, use_cache=False)

    return work


def _one_at_a_time(anatomy: Anatomy) -> Work:
    """A forward pass with the loss, for each of some neurons."""

    def work() -> None:
        with torch.no_grad():
            for neuron in range(ABLATED):
                row = anatomy.downs[0].weight[neuron].clone()
                anatomy.downs[0].weight[neuron] = 0
                for batch in _batches():
                    for ids in batch.input_ids.split(2):
                        anatomy.model(ids, labels=ids, use_cache=False)
                anatomy.downs[0].weight[neuron] = row

    return work


def _materialised(anatomy: Anatomy) -> Work:
    """All activations of all layers kept, then counted and squared."""

    def work() -> None:
        kept: dict[Site, list[torch.Tensor]] = {Site.GATE: [], Site.NEURON: []}
        for batch in _batches():
            see = dict.fromkeys(kept, lambda site, _layer, tensor: kept[site].append(tensor))
            anatomy.run(batch.input_ids, see=see)
        gates, neurons = (torch.stack(tensors) for tensors in kept.values())
        (gates > 0).sum((1, 2))
        neurons.square().sum((1, 2))

    return work


def _blocks(anatomy: Anatomy) -> Work:
    def work() -> None:
        for batch in _batches():
            anatomy.run(batch.input_ids, see={})

    return work


def _all() -> tuple[Work, ...]:
    anatomy = _anatomy()
    seen, attributed = _seen(anatomy), _attributed(anatomy)
    return lambda: (seen(), attributed()), _forward(anatomy), _blocks(anatomy)


def _against_ablation() -> tuple[Work, ...]:
    anatomy = _anatomy()
    return _attributed(anatomy), _one_at_a_time(anatomy)


def _against_keeping() -> tuple[Work, ...]:
    anatomy = _anatomy()
    return _seen(anatomy), _materialised(anatomy), _blocks(anatomy)


def _shared() -> tuple[Work, ...]:
    anatomy = _anatomy()
    return _seen(anatomy), _blocks(anatomy)


NEURONS = 12 * 3072
ROWS = {
    "firing, PLND and attribution of 36,864 neurons / bare forward passes": Row(_all, 3.0, rounds=3),
    "firing and PLND of 36,864 neurons / forward pass of the blocks": Row(_shared, 1.15, rounds=3),
    "attribution of 36,864 neurons / one-at-a-time ablation, extrapolated": Row(
        _against_ablation, 1e-3, rounds=2, against_times=NEURONS / ABLATED
    ),
    "firing and PLND of 36,864 neurons / keeping all activations": Row(_against_keeping, 1.0, rounds=3),
}
