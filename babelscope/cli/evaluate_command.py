"""`babelscope evaluate DIR`: ask every checkpoint code problems and run what it writes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from babelscope.analyses.executor import require_dtype
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
    Problems,
    Questions,
    ShardOption,
    Target,
    emit,
    say,
    show,
)
from babelscope.cli.reading import audited, owed_by_others
from babelscope.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from babelscope.analyses.evaluate import Evaluation
    from babelscope.checkpoints.series import Series


def command(
    directory: Annotated[Path, typer.Argument(help=PLACE)],
    problems: Problems = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help="Languages to ask in, each by an option of its own; default: pivot and target."),
    ] = None,
    pivot: Pivot = None,
    target: Target = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Completions per problem; more than one needs a temperature.")
    ] = 1,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 is greedy; 0.2 is usual for pass@1, 0.8 for pass@10.")
    ] = 0,
    top_p: Annotated[float, typer.Option(help="Nucleus that is sampled from.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    k: Annotated[
        list[int] | None, typer.Option("-k", help="pass@k; default: 1. Each by an option of its own.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Room for one completion; default: 512.")
    ] = None,
    graded: Annotated[
        bool,
        typer.Option(
            "--graded",
            help="Also read the problems' own solutions: bits per byte, preference over broken copies, "
            "translation loss of every ordered pair of languages.",
        ),
    ] = False,
    monolingual: Annotated[
        Path | None,
        typer.Option(
            help="A run of the target alone: with this run's step 0 it tells which problems only the pivot's "
            "knowledge solves, and so how much was transferred."
        ),
    ] = None,
    comparison: Annotated[
        str | None,
        typer.Option(
            help="How values are compared where a set compares loosely: strict, the default, or permissive."
        ),
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option(help="As of `babelscope languages`; default: bubblewrap.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Programs run at a time; default: one per core.")
    ] = None,
    questions: Questions = None,
    out: Annotated[Path | None, typer.Option(help="Where the scores go; default: DIR/evaluation.")] = None,
    device: Device = None,
    dtype: Dtype = "float32",
    shard: ShardOption = None,
    no_prefetch: NoPrefetch = False,
    keep_flagged: KeepFlagged = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """How many problems each checkpoint solves in each language: pass@k with intervals, and what changed.

    Completions are run in a sandbox; a language without a toolchain counts as not run. Completions and
    verdicts are kept beside the checkpoints: after a kill the same command goes on, and marking again needs
    no model. Written are evaluation.json, one file per checkpoint as lm-evaluation-harness writes them, and
    for every language a table that `babelscope stages` reads. `analyze` and `mix` read the same results
    when given the same --problems.
    """
    from babelscope.analyses.evaluate import Evaluation, check, evaluate, measures
    from babelscope.analyses.planning import plan
    from babelscope.analyses.problem_sources import CodeAsked
    from babelscope.analyses.questions import asked_problems, questions_file
    from babelscope.checkpoints.series import Series
    from babelscope.interp.generation import Sampling

    require_dtype(dtype)
    part = Shard.parse(shard) if shard is not None else Shard.from_environment()
    sampling = Sampling(samples, temperature, top_p, seed)
    series = Series.open(directory, pivot=pivot, target=target)
    alone = Series.open(monolingual) if monolingual else None
    languages = language or [name for name in (series.pivot, series.target) if name]
    if not languages:
        raise InputError(f"{directory} does not say its languages; give --pivot and --target, or --language")
    check(series, sampling=sampling, ks=k or (1,), monolingual=alone)
    file, asked = questions_file(series, questions)
    given = {"comparison": comparison, "sandbox": sandbox, "max_new_tokens": max_new_tokens}
    given = {name: value for name, value in given.items() if value is not None}
    code = None
    if problems or not (asked.babel or asked.code):
        code = CodeAsked.parse({"problems": problems or ["primer"], **given}, origin="evaluate")
    elif asked.code:
        asked = asked.model_copy(
            update={"code": CodeAsked.parse(asked.code.model_dump() | given, origin=str(file))}
        )
    elif given:
        raise InputError(
            f"--{next(iter(given)).replace('_', '-')} is about code problems, and {file} names others"
        )
    chosen, collected = asked_problems(
        series, languages, asked, code=code, base=file.parent if file else None, workers=workers
    )
    if chosen is None:
        raise InputError(f"{file} names no problems; give --problems")
    if graded and collected is None:
        raise InputError("--graded reads solutions of code problems, and these are none")
    read = collected.graded() if graded and collected else []
    if dry_run:
        wanted = measures(series, chosen, sampling=sampling, graded=read)
        cost = plan(series, wanted, device=device, dtype=dtype, shard=part)
        cost["programs"] = cost["checkpoints"] * len(chosen.problems) * samples
        emit(cost) if as_json else say(
            *(f"{name.replace('_', ' ')}: {value}" for name, value in cost.items())
        )
        return 0
    how: dict[str, Any] = {"sampling": sampling, "ks": k or (1,), "graded": read, "monolingual": alone}
    how |= {"device": device, "dtype": dtype, "prefetch": not no_prefetch}
    if part != WHOLE:  # an audit reads all weights: once is enough for all shards
        found = evaluate(series, chosen, shard=part, **how)
        if not isinstance(found, Evaluation):
            return owed_by_others(found, part, as_json=as_json)
    series = audited(series, keep_flagged=keep_flagged)
    found = evaluate(series, chosen, **how)
    if not isinstance(found, Evaluation):
        raise InputError(f"still to be measured by other processes: {', '.join(found.owed)}")
    settings = asdict(sampling) | {"max_new_tokens": chosen.max_new_tokens, "marking": chosen.marking}
    written = _write(found, out or series.directory / "evaluation", series, settings)
    notes = [*(collected.notes if collected else ()), *found.notes]
    if as_json:
        emit(found.to_document() | {"notes": notes, "files": [str(path) for path in written]})
    else:
        _say(found, notes, written)
    return 1 if found.findings or (collected and collected.missing) else 0


def _write(found: Evaluation, out: Path, series: Series, settings: dict[str, Any]) -> list[Path]:
    from babelscope.analyses import harness
    from babelscope.core.files import write_json, write_text

    checkpoints = {checkpoint.step: str(checkpoint.path) for checkpoint in series}
    documents = harness.documents(found.scores, name=found.name, checkpoints=checkpoints, settings=settings)
    written = [out / "evaluation.json", *harness.write(documents, out)]
    write_json(written[0], found.to_document())
    for language, table in found.outcomes.groupby("language"):
        written.append(out / f"outcomes_{language}.csv")
        write_text(written[-1], table.drop(columns="language").to_csv(index=False))
    return written


def _say(found: Evaluation, notes: list[str], written: list[Path]) -> None:
    show("problems solved", _wide(found.scores, "k", "pass@{}"))
    if found.changes is not None and len(found.changes):
        resolved = found.changes.query("low > 0 or high < 0")
        show(
            f"{len(resolved)} of {len(found.changes)} changes resolved, each by itself",
            resolved.to_dict("records"),
        )
    if found.transferred is not None:
        show("knowledge transferred", found.transferred.to_dict("records"))
    if found.grades is not None:
        show("graded", _wide(found.grades, "score", "{}"))
    if found.translations is not None and len(found.translations):
        from_source = found.translations.assign(
            after=found.translations["score"] + " after " + found.translations["source"]
        )
        show("translation", _wide(from_source, "after", "{}"))
    say(*(f"! {finding.kind}: {finding.detail}" for finding in found.findings), *notes)
    say(*(str(path) for path in written if "results_step" not in path.name))


def _wide(table: pd.DataFrame, column: str, heading: str) -> list[dict[str, Any]]:
    """A row per step and language, "estimate (low to high)" for each value of `column`."""
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for one in table.to_dict("records"):
        row = rows.setdefault(
            (one["step"], one["language"]), {"step": one["step"], "language": one["language"]}
        )
        estimate, low, high = (_short(one[name]) for name in ("estimate", "low", "high"))
        row[heading.format(one[column])] = f"{estimate} ({low} to {high})"
    return list(rows.values())


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
