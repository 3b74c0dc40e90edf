"""`babelscope neurons DIR`: which neurons are whose, whether they matter, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from babelscope.analyses.executor import require_dtype
from babelscope.analyses.neuron_questions import NeuronQuestions, RuleName, Score
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
    Questions,
    ShardOption,
    Target,
    Text,
    Tokens,
    emit,
    say,
)
from babelscope.cli.reading import audited, owed_by_others, read_directory
from babelscope.core.files import write_json, write_text


def command(
    directory: Annotated[Path, typer.Argument(help=PLACE)],
    pivot: Pivot = None,
    target: Target = None,
    text: Text = None,
    questions: Questions = None,
    probes: Probes = None,
    tokens: Tokens = None,
    score: Annotated[
        Score,
        typer.Option(
            help="What sets are made of: how often neurons fire, PLND's importance, gradient times "
            "activation toward the loss or the identifier chosen, or the direct effect on the latter."
        ),
    ] = Score.FIRING,
    rule: Annotated[
        RuleName,
        typer.Option(
            help="How: lape, the lowest 1 % of entropies (firing only); frozen, at the first checkpoint's "
            "thresholds (firing only); fdr, at a false-discovery rate and beyond a random model."
        ),
    ] = RuleName.LAPE,
    fdr: Annotated[float, typer.Option(help="The false-discovery rate of rule fdr.")] = 0.1,
    most: Annotated[
        float | None,
        typer.Option(
            help="The largest share of all neurons that rule fdr may give one language; default: no limit."
        ),
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Score neurons of values, queries and keys, too (PLND).")
    ] = False,
    ablate: Annotated[
        int | None,
        typer.Option(min=0, help="At how many checkpoints sets are ablated; default: at all, 0 for none."),
    ] = None,
    exact: Annotated[
        int,
        typer.Option(
            min=0, help="At how many checkpoints scores are held against single neurons' exact ablation."
        ),
    ] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Where neurons.html, .json and .csv go; default: DIR/analysis.")
    ] = None,
    device: Device = None,
    dtype: Dtype = "float32",
    shard: ShardOption = None,
    no_prefetch: NoPrefetch = False,
    keep_flagged: KeepFlagged = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Which neurons serve which language, whether ablating them hurts it, and how they live over training.

    Results go to the same store as those of `analyze`, which shows them with --also neurons; after a kill the
    same command computes only what is missing. neurons.csv has a row for each neuron that was a language's at
    two checkpoints in a row, or at the last: a table to filter.
    """
    require_dtype(dtype)
    part = Shard.parse(shard) if shard is not None else Shard.from_environment()
    reading = read_directory(
        directory, pivot=pivot, target=target, text=text, questions=questions, tokens=tokens, probes=probes
    )

    def asked(of: Any) -> NeuronQuestions:
        return NeuronQuestions(
            of,
            reading.questions,
            score=score,
            rule=rule,
            level=fdr,
            most=most,
            attention=attention,
            ablated=ablate,
            exact=exact,
        )

    wanted = asked(reading.series)
    if dry_run:
        cost = wanted.plan(device=device, dtype=dtype, shard=part)
        emit(cost) if as_json else say(
            *(
                f"{of}, {name.replace('_', ' ')}: {value}"
                for of, costs in cost.items()
                for name, value in costs.items()
            )
        )
        return 0
    from babelscope.analyses.neuron_analysis import analyse_neurons, measure_neurons
    from babelscope.analyses.report.neuron_report import neuron_report

    wanted = asked(audited(reading.series, keep_flagged=keep_flagged))
    how: dict[str, Any] = {"device": device, "dtype": dtype, "prefetch": not no_prefetch}
    found = measure_neurons(wanted, **how, shard=part)
    if found.owed:
        code = owed_by_others(found.owed[0], part, as_json=as_json)
        if found.rule is None and not as_json:
            say("sets are made of the scores: once these are all there, each shard ablates its part")
        return code
    if part != WHOLE:
        found = measure_neurons(wanted, **how)
    analysis = analyse_neurons(wanted, found)
    out = out or reading.series.directory / "analysis"
    written = {name: out / f"neurons.{name}" for name in ("html", "json", "csv")}
    write_json(written["json"], analysis.to_document())
    neuron_report(analysis, written["html"])
    write_text(written["csv"], analysis.table.to_csv(index=False))
    if as_json:
        emit(analysis.to_document() | {"files": {name: str(path) for name, path in written.items()}})
    else:
        say(analysis.verdict, *(f"! {f.kind}: {f.detail}" for f in analysis.findings))
        say(*(f"{name}: {path}" for name, path in written.items()))
    return 1 if analysis.findings else 0
