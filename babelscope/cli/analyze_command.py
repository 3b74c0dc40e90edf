"""`babelscope analyze DIR`: measure every checkpoint, draw the conclusions, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from babelscope.analyses.executor import require_dtype
from babelscope.analyses.questions import Extra, Lens
from babelscope.analyses.sharding import WHOLE, Shard
from babelscope.cli.output import (
    PLACE,
    Device,
    DryRun,
    Dtype,
    Json,
    KeepFlagged,
    NoPrefetch,
    Pivot,
    Probes,
    Problems,
    Questions,
    SandboxName,
    ShardOption,
    Target,
    Text,
    Tokens,
    emit,
    say,
)
from babelscope.cli.reading import owed_by_others, read_directory, write_analysis


def command(
    directory: Annotated[Path, typer.Argument(help=PLACE)],
    pivot: Pivot = None,
    target: Target = None,
    text: Text = None,
    questions: Questions = None,
    probes: Probes = None,
    problems: Problems = None,
    sandbox: SandboxName = "bubblewrap",
    available: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE=TOKENS", help="Unique tokens that exist, e.g. php=23e9, for the mix."),
    ] = None,
    tokens: Tokens = None,
    lens: Annotated[
        Lens,
        typer.Option(help="What states are read with; tuned trains translators at every checkpoint first."),
    ] = Lens.LOGIT,
    also: Annotated[
        list[Extra] | None,
        typer.Option(
            help="Measure more, each by an option of its own: causal changes the pivot−target direction, "
            "linear-probes fits probes of the language to activations, neurons does what the command of that "
            "name does."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where report.html and analysis.json go; default: DIR/analysis.")
    ] = None,
    device: Device = None,
    dtype: Dtype = "float32",
    shard: ShardOption = None,
    no_prefetch: NoPrefetch = False,
    keep_flagged: KeepFlagged = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Which language a series works in, which neurons are whose, which stage it is in, and which mix follows.

    Every result is kept beside the checkpoints: after a kill, or with one more checkpoint, the same command
    computes only what is missing. The audit of `inspect` comes first: what it flags is left out and said.
    Several processes, each with its --shard, fill one store; whoever finds nothing owed by another draws the
    conclusions.
    """
    require_dtype(dtype)
    part = Shard.parse(shard) if shard is not None else Shard.from_environment()
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
        lens=lens,
        also=also,
    )
    if dry_run:
        cost = reading.plan(device=device, dtype=dtype, shard=part)
        emit(cost) if as_json else say(
            *(f"{name.replace('_', ' ')}: {value}" for name, value in cost.items())
        )
        return 0
    if part == WHOLE:
        reading = reading.audited(keep_flagged=keep_flagged)
    results = reading.sweep(device=device, dtype=dtype, shard=part, prefetch=not no_prefetch)
    if results.owed:
        return owed_by_others(results, part, as_json=as_json)
    if part != WHOLE:  # an audit reads all weights: once is enough for all shards
        reading = reading.audited(keep_flagged=keep_flagged)
        results = reading.sweep(device=device, dtype=dtype)
    analysis = reading.conclude(results)
    if Extra.NEURONS in reading.also:
        found = reading.neurons(device=device, dtype=dtype, prefetch=not no_prefetch)
        analysis = analysis.with_neurons(found)
    out = out or reading.series.directory / "analysis"
    written = write_analysis(analysis, out)
    if as_json:
        emit(analysis.to_document() | {"files": {name: str(path) for name, path in written.items()}})
    else:
        say(analysis.verdict, *(f"! {f.kind}: {f.detail}" for f in analysis.findings))
        say(*(f"{name}: {path}" for name, path in written.items()))
    return 1 if analysis.findings else 0
