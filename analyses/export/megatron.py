"""Megatron-LM: a blend "weight prefix weight prefix …", normalised by Megatron.

Megatron draws samples of one fixed sequence length, so a share of samples is a share of tokens. The blend
says nothing about how much of a source is kept: where the mix limits unique tokens, the `.bin`/`.idx` of that
language must be built from that many tokens.

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

from babelscope.analyses.export import Export, drawn, header
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.corpora.mix import Mix


def write(mix: Mix, path: Path, *, sources: Mapping[str, str]) -> None:
    """Write the blend.

    Parameters
    ----------
    sources
        Prefix of each language's indexed dataset, as preprocess_data.py wrote it, without .bin or .idx.
    """
    if path.suffix not in (".sh", ".txt", ".json"):
        raise InputError(f"{path}: end it in .sh (flags), .txt (data-args) or .json (per-split data-args)")
    blend = []
    for language in drawn(mix, sources, what="dataset prefix"):
        prefix = sources[language]
        if prefix.split() != [prefix]:
            raise InputError(f"Megatron splits a blend at white space; rename the prefix {prefix!r}")
        if prefix.endswith((".bin", ".idx")):
            raise InputError(f"{prefix!r} is one of two files; give their common prefix {prefix[:-4]!r}")
        # Nine digits, since the whole document is only held to 1e-6.
        blend += [f"{mix.weights[language]:.9g}", prefix]
    match path.suffix:
        case ".sh":
            text = _script(mix, blend)
        case ".txt":
            text = " ".join(blend) + "\n"
        case _:
            text = json.dumps({"train": blend, "valid": None, "test": None}, indent=2) + "\n"
    write_text(path, text)


def _script(mix: Mix, blend: list[str]) -> str:
    limits = [
        f"# Build {language} from {share.unique_tokens} tokens of its source, chosen at random.\n"
        for language, share in mix.languages.items()
        if share.unique_tokens is not None
    ]
    use = '# Use: source this file, then add "${DATA_ARGS[@]}" to the flags of pretrain_gpt.py.\n'
    flags = shlex.join(["--train-data-path", *blend])
    return f"{header(mix, EXPORT)}{''.join(limits)}{use}DATA_ARGS=({flags})\n"


EXPORT = Export(
    name="megatron",
    unit="sample of the fixed sequence length, so a share of samples is a share of tokens",
    source=(
        "Megatron-LM, megatron/training/arguments.py (000c4ac) and utils.py (00caa53),"
        " megatron/core/datasets/utils.py (megatron-core 0.16.1)"
    ),
    verified="parsed, blended and counted with megatron-core 0.16.1",
    write=write,
)
