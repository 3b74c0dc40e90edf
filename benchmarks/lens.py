"""The lens on 1,000 prompts and all layers of the 124 M GPT-2, against the forward pass that it hangs on."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.batching import Batch, batches
from babelscope.interp.observe import observe
from babelscope.interp.streams import PromptStream
from babelscope.interp.working_language import WorkingLanguage
from babelscope.probes.identifiers import ProbeSet
from benchmarks.row import Row, Work
from benchmarks.series import TOKENS, prompts

COUNT = 1000


def _anatomy() -> Anatomy:
    torch.manual_seed(0)
    return Anatomy(GPT2LMHeadModel(GPT2Config()).eval())


def _batches() -> list[Batch]:
    return list(batches(prompts(COUNT).items, tokens=TOKENS, device=torch.device("cpu")))


def _measuring(anatomy: Anatomy, *, vocabulary: bool) -> Work:
    reading = prompts(COUNT)
    stream = PromptStream(ProbeSet(reading.probes), background={"python": ["x"]})
    measure = WorkingLanguage(stream, vocabulary=vocabulary)

    def work() -> object:
        observer = measure.observer(anatomy, reading, reading.items)
        observe(anatomy, reading.items, [(measure.sites, observer)], tokens=TOKENS)
        return observer.result()

    return work


def _blocks(anatomy: Anatomy) -> Work:
    def work() -> None:
        for batch in _batches():
            anatomy.run(batch.input_ids, see={})

    return work


def _blocks_and_unembeddings(anatomy: Anatomy) -> Work:
    """And, after every block, the logits of the whole vocabulary where each prompt ends, unused."""

    def work() -> None:
        for batch in _batches():
            rows = torch.arange(len(batch.items))

            def unembed(_site: Site, _layer: int, hidden: torch.Tensor) -> None:
                anatomy.final_norm(hidden[rows, batch.last]) @ anatomy.unembed.T  # noqa: B023

            anatomy.run(batch.input_ids, see={Site.RESIDUAL: unembed})

    return work


def _soft() -> tuple[Work, ...]:
    anatomy = _anatomy()
    return _measuring(anatomy, vocabulary=False), _blocks(anatomy)


def _absolute() -> tuple[Work, ...]:
    anatomy = _anatomy()
    floor = _blocks(anatomy)
    return _measuring(anatomy, vocabulary=True), _blocks_and_unembeddings(anatomy), floor


ROWS = {
    "soft share of 1,000 prompts × 12 layers / bare forward pass": Row(_soft, 1.10, rounds=2),
    "working language of 1,000 prompts × 12 layers / forward pass and an unembedding per layer": Row(
        _absolute, 1.25, rounds=2
    ),
}
