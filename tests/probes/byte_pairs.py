"""Byte-level BPEs learnt on the spot, which split text into words as GPT-2's or GPT-4's vocabulary does."""

from __future__ import annotations

from functools import cache
from typing import Any

from babelscope.probes.probe_files import known_probes

# One sign may join the word after it: `.append`, `(len`.
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def bpe(*languages: str, pattern: str | None = None, size: int = 3000) -> Any:
    """Learnt from the probes of some languages; `pattern` splits words, GPT-2's if None."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        level
        if pattern is None
        else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), level])
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    probes = known_probes(*languages).probes
    tokenizer.train_from_iterator((p.prompt + p.identifier + p.rest for p in probes), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
