"""Pieces of exported files: comments that open them, YAML, and expressions of Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from babelscope.analyses.export import Export
from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix

BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def header(mix: Mix, one: Export, notes: Iterable[str] = ()) -> str:
    """Comment lines that open a file: what it is, its unit, how sure the mix and the syntax are; `notes`."""
    share = ", ".join(f"{language} {weight:.4g}" for language, weight in mix.weights.items())
    lines = [
        f"Share of the training tokens: {share} ({mix.method}).",
        mix.verdict,
        f"Format {one.name}; unit: {one.unit}.",
        f"Syntax: {one.source}.",
        f"Checked: {one.verified or 'not (unverified)'}.",
        *notes,
    ]
    return "".join(f"# {part}\n" for line in lines for part in line.splitlines())


def block_yaml(document: Any) -> str:
    """`document` as block YAML in its own order; what YAML would misread (no, 1e-05, C#) is quoted."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=float("inf"))


def indexed_prefix(source: str) -> str:
    """Common prefix of an indexed dataset's .bin and .idx, as Megatron's preprocess_data.py wrote them.

    Raises
    ------
    InputError
        If `source` names one of the two files.
    """
    if source.endswith((".bin", ".idx")):
        raise InputError(f"{source!r} is one of two files; give their common prefix {source[:-4]!r}")
    return source


def quoted(text: str) -> str:
    """`text` as a literal of Python in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def mapping(values: Mapping[str, Any]) -> str:
    """`values` as a literal of Python."""
    return "{" + ", ".join(f"{quoted(name)}: {value!r}" for name, value in values.items()) + "}"


def loading(source: str, *, path: str | None = None) -> str:
    """The call of `load_dataset` that reads `source`; `path` is the expression that stands for its name."""
    builder = BUILDERS.get(Path(source).suffix)
    name = path or quoted(source)
    given = f'"{builder}", data_files={name}' if builder else name
    return f'load_dataset({given}, split="train")'
