"""The `Mix` document itself: plain JSON that every command here reads back."""

from __future__ import annotations

from pathlib import Path

from babelscope.analyses.export import Export
from babelscope.corpora.mix import Mix


def write(mix: Mix, path: Path) -> list[str]:
    """Write the document; there is nothing to note."""
    mix.save(path)
    return []


EXPORT = Export(
    name="json",
    unit="share of the processed tokens",
    source="babelscope.corpora.mix.Mix, format 2",
    verified="read back by Mix.load",
    endings=(".json",),
    write=write,
)
