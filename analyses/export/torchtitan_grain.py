"""torchtitan after 0.3.0: a Python file with its Grain pipeline, `DatasetMixConfig` over packed sources.

Where the mix stands decides what its weights count: mixed first and packed then, documents; packed first and
mixed then, rows of `seq_len` tokens, so that a share of draws is a share of tokens. The second is written.
`GrainDataLoader.Config(repeat=True)` begins anew a source that ends; without it the run stops at the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import left_out, read_again, to_build, token_shares
from babelscope.analyses.export._text import header, quoted
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix

BODY = """\
from torchtitan.components.data import (
    ConcatThenSplitPackingConfig,
    DatasetMixConfig,
    GrainDataLoader,
    IndexedJsonlSource,
    SingleDatasetConfig,
    WeightedDataset,
)
from torchtitan.hf_datasets.text_datasets import TextProcessor


def text(row):
    return row[{field}]


def packed(pattern):
    return ConcatThenSplitPackingConfig(
        dataset=SingleDatasetConfig(
            source=IndexedJsonlSource.Config(patterns=(pattern,)),
            processor=TextProcessor.Config(text_fn=text),
            post_filters=(lambda sample: sample is not None,),
        ),
    )


dataloader = GrainDataLoader.Config(
    dataset=DatasetMixConfig(
        datasets=(
{datasets}
        ),
    ),
    seed={seed},
    shuffle=True,
    repeat=True,
)
"""


def write(
    mix: Mix, path: Path, *, sources: Mapping[str, str], seed: int = 42, field: str = "text"
) -> list[str]:
    """Write the file; a configuration imports `dataloader` from it.

    Parameters
    ----------
    sources
        Each language's JSON Lines file, or a pattern of several (`data/php/*.jsonl`).
    seed
        Of the shuffles.
    field
        The text's name in a row.

    Raises
    ------
    InputError
        For a source that is not .jsonl.
    """
    shares = token_shares(mix, sources)
    if odd := [source for source in (sources[one] for one in shares) if not source.endswith(".jsonl")]:
        raise InputError(f"this pipeline is written for .jsonl files, not {odd[0]!r}; give such a file")
    notes = [*left_out(mix), *to_build(mix, shares), *read_again(mix, shares)]
    datasets = (
        f"            WeightedDataset(dataset=packed({quoted(sources[language])}), weight={share!r}),"
        for language, share in shares.items()
    )
    body = BODY.format(field=quoted(field), datasets="\n".join(datasets), seed=int(seed))
    write_text(path, f"{header(mix, EXPORT, notes)}{body}")
    return notes


EXPORT = Export(
    name="torchtitan-grain",
    unit="row of seq_len tokens, packed before it is drawn, so a share of rows is a share of tokens",
    source="torchtitan's repository after 0.3.0, torchtitan/components/data/README.md (b229038)",
    verified=None,
    endings=(".py",),
    write=write,
)
