"""Megatron-LM: a blend "weight prefix weight prefix …", normalised by Megatron.

Megatron draws samples of one fixed sequence length, so a share of samples is a share of tokens. The blend
says nothing about how much of a source is kept: where the mix limits unique tokens, the `.bin`/`.idx` of that
language must be built from that many tokens. A source that ends is read again, as often as the run needs.

The ending of the path picks which of Megatron's three ways to take a blend is written:

    .sh     a bash array with the flag --train-data-path; comments say what it is
    .txt    for --data-args-path: the same words, split at white space, and so nothing else
    .json   for --per-split-data-args-path: the keys train, valid and test, null where no split is given
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.analyses.export._draws import left_out, read_again, to_build, token_shares
from babelscope.analyses.export._text import header, indexed_prefix
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix


def write(mix: Mix, path: Path, *, sources: Mapping[str, str]) -> list[str]:
    """Write the blend.

    Parameters
    ----------
    sources
        Prefix of each language's indexed dataset, as preprocess_data.py wrote it, without .bin or .idx.
    """
    shares = token_shares(mix, sources, what="dataset prefix")
    notes = [*left_out(mix), *to_build(mix, shares), *read_again(mix, shares)]
    blend = []
    for language, share in shares.items():
        prefix = indexed_prefix(sources[language])
        if prefix.split() != [prefix]:
            raise InputError(f"Megatron splits a blend at white space; rename the prefix {prefix!r}")
        blend += [f"{share:.12g}", prefix]
    match path.suffix:
        case ".sh":
            use = 'Use: source this file, then add "${DATA_ARGS[@]}" to the flags of pretrain_gpt.py.'
            flags = shlex.join(["--train-data-path", *blend])
            text = f"{header(mix, EXPORT, [*notes, use])}DATA_ARGS=({flags})\n"
        case ".txt":
            text = " ".join(blend) + "\n"
        case _:
            text = json.dumps({"train": blend, "valid": None, "test": None}, indent=2) + "\n"
    write_text(path, text)
    return notes


EXPORT = Export(
    name="megatron",
    unit="sample of the fixed sequence length, so a share of samples is a share of tokens",
    source=(
        "Megatron-LM, megatron/training/arguments.py (000c4ac) and utils.py (00caa53),"
        " megatron/core/datasets/utils.py (megatron-core 0.16.1)"
    ),
    verified="parsed, blended and counted with megatron-core 0.16.1",
    endings=(".sh", ".txt", ".json"),
    write=write,
)
