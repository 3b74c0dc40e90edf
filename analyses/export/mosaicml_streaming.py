"""MosaicML streaming and LLM Foundry: one `Stream` per language with its `proportion`.

A proportion is a share of the samples, and a sample is whatever the shards were written with: a packed row of
one length (LLM Foundry's --concat_tokens), or a document. So the mean tokens per sample must be given.
Streams are sampled up and down to their proportions and never run out. `proportion` must stand on all streams
or none, and never beside `repeat` or `choose`; what limits unique tokens is therefore the shards.

The file is LLM Foundry's `train_loader.dataset`. Each of its streams is a `dict` that `Stream(**…)` takes, so
streaming without LLM Foundry reads the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import (
    conversion,
    draw_shares,
    left_out,
    mean_tokens,
    read_again,
    to_build,
    token_shares,
)
from babelscope.analyses.export._text import block_yaml, header
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix


def write(
    mix: Mix,
    path: Path,
    *,
    sources: Mapping[str, str],
    tokens_per_document: Mapping[str, float] | float | None = None,
    split: str | None = None,
) -> list[str]:
    """Write the streams, and the size of an epoch where the mix knows its processed tokens.

    Parameters
    ----------
    sources
        Each language's folder of MDS shards; with a scheme (s3://…) it is `remote`, else `local`.
    tokens_per_document
        Mean tokens per sample of each source, or one number: samples are packed rows of that many tokens.
    split
        Folder within each source.

    Raises
    ------
    InputError
        Without `tokens_per_document`: token shares are not shares of samples.
    """
    shares = token_shares(mix, sources)
    means = mean_tokens(mix, shares, tokens_per_document)
    streams: dict[str, dict[str, Any]] = {}
    for language, proportion in draw_shares(shares, means).items():
        place = "remote" if "://" in sources[language] else "local"
        streams[language] = {place: sources[language], "proportion": proportion}
        if split is not None:
            streams[language]["split"] = split
    dataset: dict[str, Any] = {"streams": streams}
    notes = [*conversion(shares, means), *left_out(mix), *to_build(mix, shares), *read_again(mix, shares)]
    counts = {language: mix.languages[language].processed_tokens for language in shares}
    if None not in counts.values():
        dataset["epoch_size"] = round(sum((counts[one] or 0) / means[one] for one in shares))
        notes.append("One epoch of epoch_size samples is the whole run.")
    notes.append(
        "Without LLM Foundry, with this dataset as a dict: streams = [Stream(**one) for one in"
        " dataset.pop('streams').values()]; StreamingDataset(streams=streams, **dataset)."
    )
    text = block_yaml({"train_loader": {"dataset": dataset}})
    write_text(path, f"{header(mix, EXPORT, notes)}{text}")
    return notes


EXPORT = Export(
    name="mosaicml-streaming",
    unit="sample as the shards hold it: proportions are per sample, converted from shares of tokens",
    source=(
        "mosaicml-streaming 0.13.0, streaming/base/stream.py;"
        " LLM Foundry, llmfoundry/data/text_data.py (00ef82a)"
    ),
    verified="drawn from MDS shards with mosaicml-streaming 0.13.0, achieved shares of tokens measured",
    endings=(".yaml", ".yml"),
    write=write,
)
