"""`babelscope inspect DIR`: what is in a directory of checkpoints, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from babelscope.checkpoints.layouts import shown
from babelscope.checkpoints.series import Checkpoint, Series
from babelscope.cli.output import PLACE, Json, emit, say, show


def command(directory: Annotated[Path, typer.Argument(help=PLACE)], as_json: Json = False) -> int:
    """Show a series' checkpoints, history and findings, from headers alone; exit code 1 with findings."""
    series = Series.open(directory)
    document = {
        "directory": str(directory),
        "architecture": series.config.get("model_type"),
        "pivot": series.pivot,
        "target": series.target,
        "checkpoints": [
            {
                "step": c.step,
                "name": c.name,
                "bytes": c.n_bytes if c.is_here else None,
                "tokens": c.tokens,
                "tokens_seen": c.tokens_seen,
            }
            for c in series
        ],
        "evaluations": len(series.scores),
        "history": sorted({key for entry in series.history for key in entry}),
        "findings": [asdict(finding) for finding in series.findings],
    }
    if as_json:
        emit(document)
    else:
        rows = [
            {
                "step": c.step,
                "MB": c.n_bytes / 1e6 if c.is_here else "on the hub",
                "tokens": _tokens(c),
            }
            for c in series
        ]
        languages = f"pivot {series.pivot or 'not recorded'}, target {series.target or 'not recorded'}"
        show(f"{shown(directory)}: {document['architecture']}, {len(series)} checkpoints, {languages}", rows)
        say(f"history: {', '.join(document['history']) or 'none'}; {len(series.scores)} scores of evaluators")
        say(*([f"! {f.kind}: {f.detail}" for f in series.findings] or ["no findings"]))
    return 1 if series.findings else 0


def _tokens(checkpoint: Checkpoint) -> str:
    by_language = ", ".join(f"{name} {count:,}" for name, count in (checkpoint.tokens or {}).items())
    seen = checkpoint.tokens_seen
    return by_language or ("not recorded" if seen is None else f"{seen:,}")
