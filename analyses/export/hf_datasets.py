"""Hugging Face `datasets`: a Python file that interleaves the sources.

`interleave_datasets` draws examples. If those are documents of different mean lengths m_k, the probability of
drawing one from language k must be q_k ∝ p_k / m_k for the tokens to come out at p_k; the file shows that
step with its numbers. If every example is a packed row of one length, q_k = p_k.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import (
    conversion,
    end,
    left_out,
    mean_tokens,
    read_again,
    token_shares,
)
from babelscope.analyses.export._text import header, loading, mapping, quoted
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix

# The third strategy, all_exhausted_without_replacement, ends on whatever is left and so misses the shares.
STRATEGIES = ("all_exhausted", "first_exhausted")

BODY = '''\
from datasets import interleave_datasets, load_dataset

SEED = {seed}
TOKEN_SHARE = {shares}
TOKENS_PER_EXAMPLE = {means}
UNIQUE_TOKENS = {unique}  # None keeps every example

DRAWS = {{language: TOKEN_SHARE[language] / TOKENS_PER_EXAMPLE[language] for language in TOKEN_SHARE}}
PROBABILITIES = {{language: draws / sum(DRAWS.values()) for language, draws in DRAWS.items()}}

SOURCES = {{
{sources}
}}


def kept(language):
    """A random subset of about UNIQUE_TOKENS tokens."""
    examples = SOURCES[language].shuffle(seed=SEED)
    if UNIQUE_TOKENS[language] is None:
        return examples
    wanted = max(1, round(UNIQUE_TOKENS[language] / TOKENS_PER_EXAMPLE[language]))
    return examples.select(range(min(wanted, len(examples))))


mixed = interleave_datasets(
    [kept(language) for language in PROBABILITIES],
    probabilities=list(PROBABILITIES.values()),
    seed=SEED,
    stopping_strategy="{strategy}",
)
'''


def write(
    mix: Mix,
    path: Path,
    *,
    sources: Mapping[str, str],
    tokens_per_document: Mapping[str, float] | float | None = None,
    seed: int = 0,
    stopping_strategy: str = STRATEGIES[0],
) -> list[str]:
    """Write the file; running it, or importing `mixed` from it, gives the mixed dataset.

    Parameters
    ----------
    sources
        Each language's JSON Lines or Parquet file, or another name that `load_dataset` takes.
    tokens_per_document
        Mean tokens per document of each source, or one number: examples are packed rows of that many tokens.
    seed
        Of the shuffles and the draws.
    stopping_strategy
        "all_exhausted" repeats the sources that end early, "first_exhausted" stops with the first.

    Raises
    ------
    InputError
        Without `tokens_per_document`: token shares are not shares of documents.
    """
    if stopping_strategy not in STRATEGIES:
        listed = " or ".join(STRATEGIES)
        raise InputError(f"stopping_strategy {stopping_strategy!r} does not hold the shares; use {listed}")
    shares = token_shares(mix, sources)
    means = mean_tokens(mix, shares, tokens_per_document)
    first = stopping_strategy == "first_exhausted"
    ends = [*([] if first else read_again(mix, shares)), *end(mix, shares, first=first)]
    notes = [*conversion(shares, means), *left_out(mix), *ends]
    body = BODY.format(
        seed=int(seed),
        shares=mapping(shares),
        means=mapping(means),
        unique=mapping({language: mix.languages[language].unique_tokens for language in shares}),
        sources="\n".join(f"    {quoted(language)}: {loading(sources[language])}," for language in shares),
        strategy=stopping_strategy,
    )
    write_text(path, f"{header(mix, EXPORT, notes)}{body}")
    return notes


EXPORT = Export(
    name="hf-datasets",
    unit="example: probabilities are per document, converted from shares of tokens",
    source="datasets 5.2.0, interleave_datasets in datasets/combine.py",
    verified="run with datasets 5.2.0, achieved shares of tokens measured",
    endings=(".py",),
    write=write,
)
