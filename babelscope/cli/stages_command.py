"""`babelscope stages`: stages of a score curve, from a plain table; no model is needed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from babelscope.cli.output import Json, emit, say, show


def command(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV, JSONL or Parquet with columns step, solved, total; or step, problem, passed, which is "
            "better: it tells which problems checkpoints share."
        ),
    ],
    breaks: Annotated[int, typer.Option(min=1, max=3, help="Most breaks to consider.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the simulated nulls.")] = 0,
    as_json: Json = False,
) -> int:
    """Find translation, transition and stabilization in a score curve, or say that it cannot be told."""
    from babelscope.analyses.score_curve import ScoreCurve
    from babelscope.analyses.stages import StageDetector

    found = StageDetector(max_breaks=breaks, seed=seed).fit(ScoreCurve.from_table(table))
    if as_json:
        emit(found.to_document())
        return 0
    say(found.verdict_)
    if found.stages_:
        show("stages", [asdict(stage) for stage in found.stages_])
    low, high = found.best_interval_
    say(f"best checkpoint: step {found.best_step_} ({low} to {high})")
    return 0
