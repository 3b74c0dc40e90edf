"""`babelscope inspect PLACE`: what is in a series of checkpoints, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from babelscope.checkpoints.audit import judge, survey, unread
from babelscope.checkpoints.contents import Contents
from babelscope.checkpoints.findings import Finding
from babelscope.checkpoints.layouts import shown
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.weights import own_files
from babelscope.cli.output import PLACE, DryRun, Json, emit, say, show


def command(
    directory: Annotated[Path, typer.Argument(help=PLACE)],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Audit a series: read every weight once, show its checkpoints, history and findings; 1 with findings.

    What was read is remembered beside the checkpoints: one more checkpoint costs one checkpoint.
    """
    series = Series.open(directory)
    missing = unread(series)
    here = [checkpoint for checkpoint in missing if checkpoint.is_here]
    cost = {
        "checkpoints_to_fetch": len(missing) - len(here),
        "checkpoints_to_read": len(missing),
        "files_to_read": sum(len(own_files(checkpoint.path)) for checkpoint in here),
        "bytes_to_read": sum(checkpoint.n_bytes for checkpoint in here),
    }
    if dry_run:
        emit(cost) if as_json else say(*(f"{name.replace('_', ' ')}: {n:,}" for name, n in cost.items()))
        return 0
    contents, unreadable = survey(series)
    bytes_read = sum(checkpoint.n_bytes for checkpoint in missing if checkpoint.is_here)
    findings = judge(series, contents, unreadable)
    rows = list(_rows(series, contents, findings))
    document = {
        "directory": str(directory),
        "architecture": series.config.get("model_type"),
        "pivot": series.pivot,
        "target": series.target,
        "checkpoints": rows,
        "evaluations": len(series.scores),
        "history": sorted({key for entry in series.history for key in entry}),
        "bytes_read": bytes_read,
        "findings": [asdict(finding) for finding in findings],
    }
    if as_json:
        emit(document)
    else:
        languages = f"pivot {series.pivot or 'not recorded'}, target {series.target or 'not recorded'}"
        title = f"{shown(str(directory))}: {document['architecture']}, {len(series)} checkpoints, {languages}"
        show(title, [_shown(row) for row in rows])
        say(f"history: {', '.join(document['history']) or 'none'}; {len(series.scores)} scores of evaluators")
        say(f"read: {bytes_read / 1e6:,.1f} MB of weights; the rest was known")
        say(*([f"! {f.kind}: {f.detail}" for f in findings] or ["no findings"]))
    return 1 if findings else 0


def _rows(
    series: Series, contents: Mapping[int, Contents], findings: tuple[Finding, ...]
) -> Iterator[dict[str, Any]]:
    """One per checkpoint; `moved` is its distance to the one before, as a share of that one's norm."""
    previous = None
    for checkpoint in series:
        found = contents.get(checkpoint.step)
        sound = found is not None and not any(tensor.non_finite for tensor in found.tensors.values())
        yield {
            "step": checkpoint.step,
            "name": checkpoint.name,
            "bytes": checkpoint.n_bytes if checkpoint.is_here else None,
            "tokens": checkpoint.tokens,
            "tokens_seen": checkpoint.tokens_seen,
            "fingerprint": found.fingerprint if found else None,
            "norm": found.norm if found else None,
            "moved": found.distance(previous) / previous.norm
            if found and previous and previous.norm
            else None,
            "flags": [finding.kind for finding in findings if finding.step == checkpoint.step],
        }
        previous = found if sound else None


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    seen = row["tokens_seen"]
    by_language = ", ".join(f"{name} {count:,}" for name, count in (row["tokens"] or {}).items())
    return {
        "step": row["step"],
        "MB": "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.3g}",
        "tokens": by_language or ("not recorded" if seen is None else f"{seen:,}"),
        "norm": "" if row["norm"] is None else f"{row['norm']:.5g}",
        "moved": "" if row["moved"] is None else f"{row['moved']:.2%}",
        "flags": ", ".join(row["flags"]),
    }
