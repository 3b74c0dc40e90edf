"""Completions of problems, greedy or sampled.

Prompts are padded on the left to the longest of their batch; `generate` derives position ids from the mask.
A row ends where its problem's rules say so, seen every few tokens, and a batch when its rows have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from babelscope.core.errors import InputError
from babelscope.interp.measure import Item
from babelscope.probes.completions import cut, ended

if TYPE_CHECKING:
    import torch

    from babelscope.interp.anatomy import Anatomy
    from babelscope.probes.problems import Problem

TOKENS = 1 << 15  # of prompts and completions held at once: a batch's cache of keys and values
LOOK_EVERY = 16  # tokens between looks at the text: what a row writes beyond its end is cut off


@dataclass(frozen=True)
class Sampling:
    """How a model is asked.

    Attributes
    ----------
    samples
        Completions per problem; one if greedy.
    temperature
        0 is greedy.
    top_p
        Nucleus: the most likely tokens of that much probability are drawn from.
    seed
        Of the draws. Completions repeat on the same device with the same problems.

    Raises
    ------
    InputError
        For several greedy completions, which would all be the same, and values out of range.
    """

    samples: int = 1
    temperature: float = 0.0
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise InputError(
                f"samples = {self.samples}, temperature = {self.temperature}, top_p = {self.top_p}: "
                "give at least one sample, a temperature from 0 up, and 0 < top_p ≤ 1"
            )
        if self.samples > 1 and self.temperature == 0:
            raise InputError(
                f"{self.samples} greedy completions of a problem are all the same; give a temperature "
                "(0.2 is usual for pass@1, 0.8 for pass@10 and more)"
            )


GREEDY = Sampling()


class Written(NamedTuple):
    """A completion, and whether it came to its end."""

    text: str
    ended: bool


def complete(
    anatomy: Anatomy,
    tokenizer: Any,
    items: Sequence[Item],
    problems: Sequence[Problem],
    *,
    new_tokens: int,
    sampling: Sampling = GREEDY,
) -> list[Written]:
    """Completions of each item's problem, sample by sample, item by item, without special tokens.

    A prompt that leaves less than `new_tokens` of the model's context is completed within what is left.

    Raises
    ------
    InputError
        If a prompt leaves nothing of it.
    """
    context = getattr(anatomy.model.config, "max_position_embeddings", None) or (1 << 62)
    for item, problem in zip(items, problems, strict=True):
        if len(item.ids) >= context:
            raise InputError(
                f"the prompt of {problem.id} in {problem.language} has {len(item.ids)} tokens, but the"
                f" model's context is {context}; leave the problem out"
            )
    rows = [(place, sample) for place in range(len(items)) for sample in range(sampling.samples)]
    rows.sort(key=lambda row: (-len(items[row[0]].ids), row))
    written: dict[tuple[int, int], Written] = {}
    while rows:
        room = min(len(items[rows[0][0]].ids) + new_tokens, context)
        some, rows = rows[: max(1, TOKENS // room)], rows[max(1, TOKENS // room) :]
        found = _batch(
            anatomy,
            tokenizer,
            [items[place].ids for place, _ in some],
            [problems[place] for place, _ in some],
            room=room,
            sampling=sampling,
            seed=_seed(sampling.seed, items[some[0][0]].index, some[0][1]),
        )
        written.update(zip(some, found, strict=True))
    return [written[place, sample] for place in range(len(items)) for sample in range(sampling.samples)]


def _batch(
    anatomy: Anatomy,
    tokenizer: Any,
    prompts: Sequence[np.ndarray],
    problems: Sequence[Problem],
    *,
    room: int,
    sampling: Sampling,
    seed: int,
) -> list[Written]:
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    width = len(prompts[0])  # the longest
    eos = tokenizer.eos_token_id
    input_ids = torch.full((len(prompts), width), 0 if eos is None else eos)  # (row, position)
    real = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.as_tensor(ids)
        real[row, width - len(ids) :] = 1
    wanted: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        wanted = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
        }
    config = GenerationConfig(
        max_new_tokens=room - width, eos_token_id=eos, pad_token_id=0 if eos is None else eos, **wanted
    )

    def text_of(ids: Any) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True)

    done = [False] * len(prompts)

    def look(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        """Which rows have come to their end; the name and form are those of a `StoppingCriteria`."""
        length = ids.shape[1] - width
        if length % LOOK_EVERY == 0:
            waiting = [row for row, is_done in enumerate(done) if not is_done]
            texts = tokenizer.batch_decode(ids[waiting, width:].tolist(), skip_special_tokens=True)
            for row, text in zip(waiting, texts, strict=True):
                done[row] = ended(text, problems[row])
        return torch.tensor(done, device=ids.device)

    seeded = _seeded(seed, anatomy.device) if sampling.temperature > 0 else nullcontext()
    with torch.inference_mode(), without_defaults(anatomy.model), seeded:
        ids = anatomy.model.generate(
            input_ids=input_ids.to(anatomy.device),
            attention_mask=real.to(anatomy.device),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([look]),  # pyright: ignore[reportArgumentType]
        )
    written = []
    for row, new in enumerate(ids[:, width:].tolist()):
        own = new[: new.index(eos)] if eos in new else new
        text = text_of(own)
        kept = cut(text, problems[row])
        written.append(Written(kept, len(own) < len(new) or done[row] or kept != text))
    return written


def _seed(*parts: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws of their own, that leave everybody else's as they were."""
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def without_defaults(model: Any) -> Iterator[None]:
    """Without what the checkpoint's `generation_config.json` adds to any request: penalties, beams."""
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
