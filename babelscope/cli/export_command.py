"""`babelscope export MIX FORMAT`: a mix in a training stack's own syntax and unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from babelscope.cli.output import Json, emit, pairs, say
from babelscope.core.errors import InputError


def command(
    mix: Annotated[Path, typer.Argument(help="mix.json.")],
    format: Annotated[str, typer.Argument(help="json, hf-datasets or megatron.")],
    out: Annotated[Path, typer.Argument(help="The file to write; for megatron .sh, .txt or .json.")],
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE=PATH", help="Where each language's data is, as the stack names it."),
    ] = None,
    tokens_per_document: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANGUAGE=MEAN",
            help="Mean tokens per document, for stacks that draw documents; one plain number if all examples "
            "are packed rows of that length.",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Export a mix; what its weights are shares of is converted to the stack's unit, and said."""
    from babelscope.analyses.export import export, formats
    from babelscope.corpora.mix import Mix

    options: dict[str, Any] = {}
    if source:
        options["sources"] = pairs(source, option="--source")
    if tokens_per_document:
        options["tokens_per_document"] = _lengths(tokens_per_document)
    export(Mix.load(mix), format, out, **options)
    chosen = formats()[format]
    checked = chosen.verified or "no: unverified against the stack's own code"
    if as_json:
        emit({"file": str(out), "unit": chosen.unit, "syntax": chosen.source, "verified": chosen.verified})
    else:
        say(f"written: {out}", f"unit: {chosen.unit}", f"syntax: {chosen.source}", f"checked: {checked}")
    return 0


def _lengths(given: list[str]) -> dict[str, float] | float:
    try:
        if len(given) == 1 and "=" not in given[0]:
            return float(given[0])
        return {name: float(mean) for name, mean in pairs(given, option="--tokens-per-document").items()}
    except ValueError:
        raise InputError(f"--tokens-per-document {' '.join(given)}: give numbers, e.g. php=812.5") from None
