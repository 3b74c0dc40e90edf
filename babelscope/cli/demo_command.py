"""`babelscope demo`: the whole loop on the small Babel, with nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from babelscope.cli.output import DryRun, Json, emit, say
from babelscope.cli.reading import write_analysis
from babelscope.core.progress import console


def command(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the world and of training.")] = 0,
    target: Annotated[str, typer.Option(help="The language learnt: php, racket or ocaml.")] = "php",
    arm_seeds: Annotated[int, typer.Option(min=1, help="Training seeds of each corrective run.")] = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Train a small model on a generated world, analyse it, act on the mix, and write the report."""
    from babelscope.analyses.demo import Demo

    demo = Demo(out, seed=seed, target=target)
    if dry_run:
        cost = demo.plan(arm_seeds=arm_seeds)
        emit(cost) if as_json else say(
            *(f"{name.replace('_', ' ')}: {value}" for name, value in cost.items())
        )
        return 0
    analysis = demo.run(
        say=lambda line: console.print(f"· {line}", markup=False, highlight=False), arm_seeds=range(arm_seeds)
    )
    written = write_analysis(analysis, out)
    if as_json:
        emit(analysis.to_document() | {"files": {name: str(path) for name, path in written.items()}})
    else:
        say(analysis.verdict, *(f"{name}: {path}" for name, path in written.items()))
    return 1 if analysis.findings else 0
