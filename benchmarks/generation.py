"""Completions of problems against `model.generate` on the same batch, on the GPT-2 of `benchmarks.thread`."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, PreTrainedTokenizerFast

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.generation import complete
from babelscope.interp.measure import Item
from babelscope.probes.problems import Problem
from benchmarks.row import Row, Work
from benchmarks.thread import small_gpt2

PROMPTS, NEW_TOKENS = 16, 48


def _prepare() -> tuple[Work, Work]:
    gpt2 = small_gpt2()
    tokenizer = _tokenizer(gpt2.config.vocab_size)
    anatomy = Anatomy(gpt2)
    rng = np.random.default_rng(0)
    items = [Item(rng.integers(1, 256, int(n)), i) for i, n in enumerate(rng.integers(20, 60, PROMPTS))]
    # No rule ever ends these: what is timed is the same number of tokens, and looking for an end.
    problems = [
        Problem(str(i), "php", "", ends_after=r"^\}never", ends_before=(r"^never",)) for i in range(PROMPTS)
    ]
    width = max(len(item.ids) for item in items)
    ids = torch.zeros(PROMPTS, width, dtype=torch.long)
    real = torch.zeros_like(ids)
    for row, item in enumerate(items):
        ids[row, width - len(item.ids) :] = torch.as_tensor(item.ids)
        real[row, width - len(item.ids) :] = 1
    config = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0)

    def ours() -> None:
        complete(anatomy, tokenizer, items, problems, new_tokens=NEW_TOKENS)

    def theirs() -> None:
        with torch.inference_mode():
            gpt2.generate(input_ids=ids, attention_mask=real, generation_config=config)

    return ours, theirs


def _tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A word for every token that the model may write."""
    words = WordLevel({f"word{n}": n for n in range(size)}, unk_token="word0")  # noqa: S106 - no secret
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words))


ROWS = {"completions / model.generate, per token": Row(_prepare, 1.0)}
