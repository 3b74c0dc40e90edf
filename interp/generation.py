"""Greedy completions of problems, and which of them solve theirs.

Prompts are generated in groups of equal length: no padding, so no position ids to get wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.core.errors import InputError
from babelscope.interp.measure import Generate, Item, Reading
from babelscope.interp.streams import ProblemStream

if TYPE_CHECKING:
    from babelscope.interp.anatomy import Anatomy

ROWS = 128


class ProblemScores(Generate[Reading]):
    """Which problems a checkpoint solves, by greedy decoding.

    Parameters
    ----------
    stream
        The problems, with their marking.
    """

    name: ClassVar[str] = "problem_scores"
    version: ClassVar[int] = 2

    def __init__(self, stream: ProblemStream):
        self.problems = stream.problems
        self.stream = stream

    def generate(
        self,
        anatomy: Anatomy,
        tokenizer: Any,
        reading: Reading,
        shard: Sequence[Item],
    ) -> xr.Dataset:
        completions = greedy(anatomy, tokenizer, shard, new_tokens=self.problems.max_new_tokens)
        asked = [self.problems.problems[item.index] for item in shard]
        cut = [_until(stop=p.stop, text=text) for p, text in zip(asked, completions, strict=True)]
        solved = [self.problems.solved(problem, text) for problem, text in zip(asked, cut, strict=True)]
        return xr.Dataset(
            {"solved": ("problem", np.array(solved, dtype=bool)), "completion": ("problem", cut)},
            coords={"problem": [item.index for item in shard]},
        )

    def combine(self, parts: Sequence[xr.Dataset], reading: Reading) -> xr.Dataset:
        """`solved` and `completion` by problem, with id, language and group."""
        whole = xr.concat(parts, dim="problem").sortby("problem")
        asked = [self.problems.problems[i] for i in whole["problem"].to_numpy()]
        return whole.assign_coords(
            id=("problem", [p.id for p in asked]),
            language=("problem", [p.language for p in asked]),
            group=("problem", [p.group for p in asked]),
        )


def greedy(anatomy: Anatomy, tokenizer: Any, items: Sequence[Item], *, new_tokens: int) -> list[str]:
    """The most likely continuation of each item, as text, without special tokens.

    Raises
    ------
    InputError
        If a prompt and its answer do not fit the model's context.
    """
    import torch
    from transformers import GenerationConfig

    context = getattr(anatomy.model.config, "max_position_embeddings", None)
    longest = max(items, key=lambda item: len(item.ids))
    if context is not None and len(longest.ids) + new_tokens > context:
        raise InputError(
            f"problem {longest.index} has {len(longest.ids)} tokens and may be answered with {new_tokens}, "
            f"but the model's context is {context}"
        )
    eos = tokenizer.eos_token_id
    greedily = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=eos, pad_token_id=eos
    )
    texts: dict[int, str] = {}
    by_length = sorted(items, key=lambda item: (len(item.ids), item.index))
    for _, group in groupby(by_length, key=lambda item: len(item.ids)):
        members = list(group)
        for start in range(0, len(members), ROWS):
            some = members[start : start + ROWS]
            prompts = torch.as_tensor(np.stack([item.ids for item in some]), device=anatomy.device)
            with torch.inference_mode(), _without_defaults(anatomy.model):
                written = anatomy.model.generate(
                    input_ids=prompts,
                    attention_mask=torch.ones_like(prompts),
                    generation_config=greedily,
                )
            answers = tokenizer.batch_decode(written[:, prompts.shape[1] :], skip_special_tokens=True)
            texts.update({item.index: answer for item, answer in zip(some, answers, strict=True)})
    return [texts[item.index] for item in items]


@contextmanager
def _without_defaults(model: Any) -> Iterator[None]:
    """Without what the checkpoint's `generation_config.json` adds to any request: penalties, beams."""
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _until(text: str, *, stop: Sequence[str]) -> str:
    ends = [text.index(mark) for mark in stop if mark in text]
    return text[: min(ends, default=len(text))]
