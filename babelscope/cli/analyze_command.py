"""`babelscope analyze DIR`: measure every checkpoint, draw the conclusions, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from babelscope.cli.output import (
    Device,
    DryRun,
    Json,
    KeepFlagged,
    Pivot,
    Questions,
    Target,
    Text,
    Tokens,
    emit,
    say,
)
from babelscope.cli.reading import read_directory, write_analysis


def command(
    directory: Annotated[Path, typer.Argument(help="Holds checkpoint-N folders.")],
    pivot: Pivot = None,
    target: Target = None,
    text: Text = None,
    questions: Questions = None,
    available: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE=TOKENS", help="Unique tokens that exist, e.g. php=23e9, for the mix."),
    ] = None,
    tokens: Tokens = None,
    out: Annotated[
        Path | None, typer.Option(help="Where report.html and analysis.json go; default: DIR/analysis.")
    ] = None,
    device: Device = None,
    keep_flagged: KeepFlagged = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Which language a series works in, which neurons are whose, which stage it is in, and which mix follows.

    Every result is kept beside the checkpoints: after a kill, or with one more checkpoint, the same command
    computes only what is missing. The audit of `inspect` comes first: what it flags is left out and said.
    """
    reading = read_directory(
        directory,
        pivot=pivot,
        target=target,
        text=text,
        questions=questions,
        available=available,
        tokens=tokens,
        keep_flagged=keep_flagged,
    )
    if dry_run:
        cost = reading.plan(device=device)
        emit(cost) if as_json else say(
            *(f"{name.replace('_', ' ')}: {value}" for name, value in cost.items())
        )
        return 0
    analysis = reading.analyse(device=device)
    out = out or directory / "analysis"
    written = write_analysis(analysis, out)
    if as_json:
        emit(analysis.to_document() | {"files": {name: str(path) for name, path in written.items()}})
    else:
        say(analysis.verdict, *(f"! {f.kind}: {f.detail}" for f in analysis.findings))
        say(*(f"{name}: {path}" for name, path in written.items()))
    return 1 if analysis.findings else 0
