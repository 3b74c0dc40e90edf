"""GPT-NeoX: two lists, of prefixes and of weights, in a .yml of the run's configuration.

GPT-NeoX draws samples of one fixed sequence length from Megatron's indexed datasets, so a share of samples is
a share of tokens. Three things there change or refuse a mix without a word about it here:
`weight_by_num_documents: true` replaces the weights by others; `data-path` must not be given beside
`train-data-paths`; and whoever gives these must give `valid-data-paths` and `test-data-paths`, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import left_out, read_again, to_build, token_shares
from babelscope.analyses.export._text import block_yaml, header, indexed_prefix
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix


def write(mix: Mix, path: Path, *, sources: Mapping[str, str]) -> list[str]:
    """Write the lists; GPT-NeoX merges this file with the others that it is started with.

    Parameters
    ----------
    sources
        Prefix of each language's indexed dataset, as preprocess_data.py wrote it, without .bin or .idx.
    """
    shares = token_shares(mix, sources, what="dataset prefix")
    notes = [
        *left_out(mix),
        *to_build(mix, shares),
        *read_again(mix, shares),
        "Give valid-data-paths, test-data-paths and their weights, too, and no data-path; count the run in"
        " train-iters, not in train-epochs.",
    ]
    document = {
        "train-data-paths": [indexed_prefix(sources[language]) for language in shares],
        "train-data-weights": list(shares.values()),
        "weight_by_num_documents": False,
    }
    write_text(path, f"{header(mix, EXPORT, notes)}{block_yaml(document)}")
    return notes


EXPORT = Export(
    name="gpt-neox",
    unit="sample of the fixed sequence length, so a share of samples is a share of tokens",
    source="GPT-NeoX, megatron/data/data_utils.py (b2f1101) and megatron/neox_arguments/arguments.py",
    verified=None,
    endings=(".yml", ".yaml"),
    write=write,
)
