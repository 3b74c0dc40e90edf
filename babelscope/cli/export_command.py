"""`babelscope export MIX FORMAT OUT`: a mix in a training stack's own syntax and unit."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from babelscope.analyses.export import Export, export, format_named, formats
from babelscope.cli.output import Json, emit, pairs, say
from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix

UNVERIFIED = "no: unverified against the stack's own code"


def command(
    mix: Annotated[Path | None, typer.Argument(help="mix.json.")] = None,
    format: Annotated[str | None, typer.Argument(help=f"One of: {', '.join(formats())}.")] = None,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="The file to write; --list says how its name ends. One that is there is replaced."
        ),
    ] = None,
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
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="An option of one format, as --list names it."),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Say of every format its unit, syntax, check and options; no more.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Export a mix; what its weights are shares of is converted to the stack's unit, and said."""
    if listing:
        return _list(as_json=as_json)
    if mix is None or format is None or out is None:
        raise InputError("give the mix, the format and the file to write, or --list to see the formats")
    chosen, found = format_named(format), Mix.load(mix)
    options: dict[str, Any] = _settings(chosen, setting)
    if source:
        options["sources"] = pairs(source, option="--source")
    elif "sources" in chosen.options:
        example = " ".join(f"--source {name}=PATH" for name, weight in found.weights.items() if weight > 0)
        raise InputError(f"{format} needs to be told where the data is; give {example}")
    if tokens_per_document:
        options["tokens_per_document"] = _lengths(tokens_per_document)
    written = export(found, format, out, **options)
    if as_json:
        emit({"file": str(out), **_about(chosen), "notes": list(written.notes)})
    else:
        say(f"written: {out}", f"unit: {chosen.unit}", *(f"note: {note}" for note in written.notes))
        say(f"syntax: {chosen.source}", f"checked: {chosen.verified or UNVERIFIED}")
    return 0


def _about(one: Export) -> dict[str, Any]:
    return {"format": one.name, "unit": one.unit, "syntax": one.source, "verified": one.verified}


def _scalars(one: Export) -> dict[str, inspect.Parameter]:
    """The options that --set gives: all but those with a value per language."""
    return {name: option for name, option in one.options.items() if "Mapping" not in str(option.annotation)}


def _list(*, as_json: bool) -> int:
    if as_json:
        emit(
            [
                _about(one) | {"endings": one.endings, "options": list(one.options)}
                for one in formats().values()
            ]
        )
        return 0
    for one in formats().values():
        say(f"{one.name} ({', '.join(one.endings)})", f"  unit: {one.unit}", f"  syntax: {one.source}")
        say(f"  checked: {one.verified or UNVERIFIED}")
        if options := [f"{name}={option.default}" for name, option in _scalars(one).items()]:
            say(f"  --set: {', '.join(options)}")
    return 0


def _settings(one: Export, given: list[str] | None) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    kinds = get_type_hints(one.write)
    for each in given or []:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise InputError(f"--set {each!r}: write it as OPTION=VALUE, for example seed=1")
        if name not in _scalars(one):
            known = ", ".join(_scalars(one)) or "none"
            raise InputError(f"--set {each}: {one.name} has no option {name!r}; it has: {known}")
        if name in settings:
            raise InputError(f"--set gives {name} twice, as {settings[name]} and as {value}; give it once")
        settings[name] = _whole(each, value) if "int" in str(kinds[name]) else value
    return settings


def _whole(given: str, value: str) -> int:
    try:
        number = float(value)  # 200e9 is a whole number, too
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise InputError(f"--set {given}: give a whole number")
    return int(value) if value.isdigit() else int(number)


def _lengths(given: list[str]) -> dict[str, float] | float:
    try:
        if len(given) == 1 and "=" not in given[0]:
            return float(given[0])
        return {name: float(mean) for name, mean in pairs(given, option="--tokens-per-document").items()}
    except ValueError:
        raise InputError(f"--tokens-per-document {' '.join(given)}: give numbers, e.g. php=812.5") from None
