"""torchtitan: a Python file with the configuration of its interleaving loader.

Each source is packed into rows of `seq_len` tokens first and the rows are drawn then, so a share of draws is
a share of tokens. (Mixed first and packed then, it would be a share of documents.) The sources are infinite:
one that ends is shuffled and begins anew, so the shares hold to the end of the run. The first pass is not
shuffled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import left_out, read_again, to_build, token_shares
from babelscope.analyses.export._text import header, loading, quoted
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix

BODY = """\
from datasets import load_dataset
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import (
    DATASETS,
    HFDataSource,
    InterleavedHuggingFaceTextDataLoader,
)


def text(example):
    return example[{field}]


{datasets}

dataloader = InterleavedHuggingFaceTextDataLoader.Config(
    sources=[
{sources}
    ],
    seed={seed},
)
"""


def write(
    mix: Mix, path: Path, *, sources: Mapping[str, str], seed: int = 42, field: str = "text"
) -> list[str]:
    """Write the file; a configuration imports `dataloader` from it.

    Parameters
    ----------
    sources
        Each language's JSON Lines or Parquet file, or another name that `load_dataset` takes.
    seed
        Of the draws.
    field
        The text's name in an example.

    Raises
    ------
    InputError
        If two languages differ only in case, which torchtitan does not tell apart.
    """
    shares = token_shares(mix, sources)
    names = {language: language.lower() for language in shares}
    if len(set(names.values())) < len(names):
        raise InputError(f"torchtitan takes names in lower case; rename one of {', '.join(names)}")
    notes = [
        *left_out(mix),
        *to_build(mix, shares),
        *read_again(mix, shares),
        "The first pass through a source is in its own order: shuffle the documents beforehand.",
    ]
    datasets = (
        f"DATASETS[{quoted(names[language])}] = DatasetConfig(\n"
        f"    path={quoted(sources[language])},\n"
        f"    loader=lambda path: {loading(sources[language], path='path')},\n"
        f"    sample_processor=text,\n)"
        for language in shares
    )
    drawn_from = (
        f"        HFDataSource(dataset={quoted(names[language])}, weight={share!r}, infinite=True),"
        for language, share in shares.items()
    )
    body = BODY.format(
        field=quoted(field), datasets="\n".join(datasets), sources="\n".join(drawn_from), seed=int(seed)
    )
    write_text(path, f"{header(mix, EXPORT, notes)}{body}")
    return notes


EXPORT = Export(
    name="torchtitan",
    unit="row of seq_len tokens, packed before it is drawn, so a share of rows is a share of tokens",
    source="torchtitan 0.3.0, torchtitan/hf_datasets/text_datasets.py and interleaved.py",
    verified="run with torchtitan 0.3.0, achieved shares of tokens measured",
    endings=(".py",),
    write=write,
)
