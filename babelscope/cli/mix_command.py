"""`babelscope mix DIR`: how much of each language to train on, or why that cannot be said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from babelscope.cli.output import (
    Device,
    Json,
    KeepFlagged,
    Pivot,
    Probes,
    Problems,
    Questions,
    SandboxName,
    Target,
    Text,
    Tokens,
    emit,
    say,
)
from babelscope.cli.reading import read_directory
from babelscope.core.errors import InputError


def command(
    directory: Annotated[
        Path, typer.Argument(help="A series that continues a model of the pivot on the target.")
    ],
    available: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANGUAGE=TOKENS",
            help="Unique tokens that exist, e.g. python=11e9; default: what the run's sources hold.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the mix goes.")] = Path("mix.json"),
    pivot: Pivot = None,
    target: Target = None,
    text: Text = None,
    questions: Questions = None,
    probes: Probes = None,
    problems: Problems = None,
    sandbox: SandboxName = "bubblewrap",
    tokens: Tokens = None,
    device: Device = None,
    keep_flagged: KeepFlagged = False,
    as_json: Json = False,
) -> int:
    """Recommend a mix by Algorithm 1, or refuse in words; exit code 1 when refused."""
    reading = read_directory(
        directory,
        pivot=pivot,
        target=target,
        text=text,
        questions=questions,
        available=available,
        tokens=tokens,
        probes=probes,
        problems=problems,
        sandbox=sandbox,
    ).audited(keep_flagged=keep_flagged)
    analysis = reading.conclude(reading.sweep(device=device))
    found = analysis.recommendation
    if found is None:
        raise InputError(" ".join(analysis.notes))
    if found.mix is not None:
        found.mix.save(out)
    if as_json:
        emit(found.model_dump(mode="json"))
    else:
        say(found.verdict)
        if found.mix is not None:
            say(f"mix: {out}", f"next: babelscope pretrain RECIPE --mix {out}")
    return 1 if found.mix is None else 0
