"""`babelscope inspect DIR`: what is in a directory of checkpoints, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from babelscope.checkpoints.series import Series
from babelscope.cli.output import Json, emit, say, show


def command(
    directory: Annotated[Path, typer.Argument(help="Holds checkpoint-N folders.")], as_json: Json = False
) -> int:
    """Show a series' checkpoints, history and findings, from headers alone; exit code 1 with findings."""
    series = Series.open(directory)
    document = {
        "directory": str(directory),
        "architecture": series.config.get("model_type"),
        "pivot": series.pivot,
        "target": series.target,
        "checkpoints": [
            {"step": c.step, "name": c.path.name, "bytes": c.n_bytes, "tokens": c.tokens} for c in series
        ],
        "history": sorted({key for entry in series.history for key in entry}),
        "findings": [asdict(finding) for finding in series.findings],
    }
    if as_json:
        emit(document)
    else:
        rows = [
            {
                "step": c.step,
                "MB": c.n_bytes / 1e6,
                "tokens": ", ".join(f"{k} {v:,}" for k, v in (c.tokens or {}).items()) or "not recorded",
            }
            for c in series
        ]
        languages = f"pivot {series.pivot or 'not recorded'}, target {series.target or 'not recorded'}"
        show(f"{directory}: {document['architecture']}, {len(series)} checkpoints, {languages}", rows)
        say(f"history: {', '.join(document['history']) or 'none'}")
        say(*([f"! {f.kind}: {f.detail}" for f in series.findings] or ["no findings"]))
    return 1 if series.findings else 0
