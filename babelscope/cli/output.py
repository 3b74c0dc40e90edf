"""What every command prints, and the options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from babelscope.core.errors import InputError

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do nothing.")]
Device = Annotated[
    str | None,
    typer.Option(help="Where models run, as torch names it; default: the first GPU, else the CPU."),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="In which models run, float32 or bfloat16; results of the two are kept apart.",
    ),
]
NoPrefetch = Annotated[
    bool,
    typer.Option(
        "--no-prefetch",
        help="Hold one copy of the weights: read a checkpoint only when the one before is done.",
    ),
]
KeepFlagged = Annotated[
    bool, typer.Option("--keep-flagged", help="Measure also the checkpoints that the audit would leave out.")
]
Pivot = Annotated[str | None, typer.Option(help="The language known first; default: what the run recorded.")]
Target = Annotated[
    str | None, typer.Option(help="The language being learnt; default: what the run recorded.")
]
Text = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LANGUAGE=FILE", help="Held-out text (.jsonl, .jsonl.gz or .txt) instead of the run's."
    ),
]
Questions = Annotated[
    Path | None, typer.Option(help="A questions.toml (probes, problems) instead of the run's own.")
]
Probes = Annotated[
    list[Path] | None,
    typer.Option(
        "--probes",
        help="Identifier probes of your own (TOML) beside the known ones; each by an option of its own.",
    ),
]
Tokens = Annotated[
    int | None,
    typer.Option(min=100, help="Held-out tokens to read per language and checkpoint; default 20,000."),
]
SandboxName = Annotated[
    str,
    typer.Option(
        "--sandbox",
        help="What programs are run in: bubblewrap, or processes, which holds off little.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Measure the I-th of N parts of the checkpoints only, as 2/8; default: by the rank that "
        "torchrun or srun gives, else all of them.",
    ),
]
Problems = Annotated[
    list[str] | None,
    typer.Option(
        "--problems",
        help="Code problems to ask: primer (this project's own), a file or directory of HumanEval, mxeval, "
        "MBXP, MultiPL-E, HumanEval-X or MBPP problems, or a data set on the hub, owner/name[:config]. "
        "Each by an option of its own; default: what the run's questions.toml names.",
    ),
]

PLACE = "Holds checkpoints (checkpoint-N, stepN, …); or a model on the hub: EleutherAI/pythia-70m@step*."

stdout = Console()


def emit(document: Any) -> None:
    """Print a JSON document."""
    print(json.dumps(document, indent=2, allow_nan=False))


def say(*lines: str) -> None:
    """Print plain lines, wrapped nowhere, with no markup read into them."""
    for line in lines:
        stdout.print(line, markup=False, highlight=False, soft_wrap=True)


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table; floats with three significant digits."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    stdout.print(table)


def pairs(given: list[str] | None, *, option: str) -> dict[str, str]:
    """`["php=x"]` as `{"php": "x"}`; `InputError` for anything else, and for a language given twice."""
    found: dict[str, str] = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} {one!r}: write it as LANGUAGE=VALUE, for example php=...")
        if name in found:
            raise InputError(f"{option} gives {name} twice, as {found[name]} and as {value}; give it once")
        found[name] = value
    return found
