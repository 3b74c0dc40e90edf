"""`babelscope mix DIR [DIR …]`: how much of each language to train on, or why that cannot be said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    pairs,
    say,
)
from babelscope.cli.reading import Reading, read_directory, token_counts
from babelscope.core.errors import InputError

if TYPE_CHECKING:
    from babelscope.analyses.nearest_mix import Limits


def command(
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR [DIR ...]",
            help="Series that continue a model of one pivot, each on a target of its own. To leave a "
            "language out, leave its series out.",
        ),
    ],
    available: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANGUAGE=TOKENS",
            help="Unique tokens that exist, e.g. python=11e9; default: what the runs' sources hold.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Tokens that the run will process, e.g. 200e9; then text can run out."),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(help="How often the text that exists may be read; with --budget, default 4."),
    ] = None,
    floor: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE=SHARE", help="Least share of the processed tokens, e.g. php=0.1."),
    ] = None,
    ceiling: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE=SHARE", help="Largest share of the processed tokens."),
    ] = None,
    present: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Your present mix, as python=0.7,php=0.3 or a mix.json; default: in proportion to what "
            "exists.",
        ),
    ] = None,
    minimum_gain: Annotated[
        float, typer.Option(help="Gain in mean score for which you would change your mix.")
    ] = 0.01,
    against: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Say what is different from an earlier mix.")
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
    """Recommend a mix by Algorithm 1, or refuse in words; exit code 1 when refused.

    --target holds for a single series; of several, each run must say its own (run.json).
    """
    if target is not None and len(directories) > 1:
        raise InputError(
            f"--target {target} holds for one series, but {len(directories)} are given; let each run say its"
            " target, as runs made by babelscope pretrain do"
        )
    from babelscope.analyses.best_mix import recommend_mix
    from babelscope.analyses.nearest_mix import EPOCHS, Limits
    from babelscope.corpora.mix import Mix
    from babelscope.corpora.mix_changes import changes

    counts = token_counts(available)
    if budget is not None and not 1 <= budget < math.inf:
        raise InputError(f"--budget {budget:g}: give the tokens of the run, for example 200e9")
    if not minimum_gain >= 0:
        raise InputError(f"--minimum-gain {minimum_gain:g}: give a difference of scores, 0 or more")
    if epochs is not None and budget is None:
        raise InputError(f"--epochs {epochs:g} says nothing without the tokens of the run; give --budget")
    asked = {
        "budget": None if budget is None else round(budget),
        "epochs": EPOCHS if epochs is None else epochs,
        "floors": _numbers(floor, option="--floor", example="0.1"),
        "ceilings": _numbers(ceiling, option="--ceiling", example="0.5"),
    }
    limits = Limits.parse(asked, origin="limits of the mix")
    old = Mix.load(against) if against else None
    weights = None if present is None else _weights(present)
    readings = [
        read_directory(
            directory,
            pivot=pivot,
            target=target,
            text=text,
            questions=questions,
            tokens=tokens,
            probes=probes,
            problems=problems,
            sandbox=sandbox,
        ).audited(keep_flagged=keep_flagged)
        for directory in directories
    ]
    _check(readings, counts, limits, weights)
    analyses = [reading.conclude(reading.sweep(device=device)) for reading in readings]
    if lacking := [" ".join(analysis.notes) for analysis in analyses if analysis.evidence.run is None]:
        raise InputError(" ".join(lacking))
    found = recommend_mix(
        [analysis.evidence for analysis in analyses],
        available=counts,
        limits=limits,
        present=weights,
        minimum_gain=minimum_gain,
    )
    changed = changes(old, found.mix) if old and found.mix else None
    if found.mix is not None:
        found.mix.save(out)
    if as_json:
        emit(found.model_dump(mode="json") | ({} if changed is None else {"changes": changed}))
    else:
        say(found.verdict)
        if changed is not None:
            say(f"against {against}:", *(f"  {one}" for one in changed or ["nothing changed"]))
        if found.mix is not None:
            say(f"mix: {out}")
            if found.mix.decision != "keep":
                say(f"next: babelscope pretrain RECIPE --mix {out}")
        elif out.exists():
            say(f"{out} is of an earlier question, and stays as it was")
    return 1 if found.mix is None else 0


def _check(
    readings: Sequence[Reading],
    counts: Mapping[str, int],
    limits: Limits,
    weights: Mapping[str, float] | None,
) -> None:
    """Refuse series that make no mix, and limits or present weights that none meets, before measuring."""
    from babelscope.analyses.best_mix import MixEvidence, tokens_that_exist
    from babelscope.analyses.mix import present_weights
    from babelscope.analyses.nearest_mix import Bounds

    unmeasured = [
        MixEvidence(
            series=reading.series.directory.name,
            pivot=str(reading.series.pivot),
            target=str(reading.series.target),
            available=reading.series.available_tokens | dict(reading.questions.available),
            run=None,
        )
        for reading in readings
    ]
    exist = tokens_that_exist(unmeasured, counts)
    Bounds.of(limits, exist)
    present_weights(weights, exist)


def _numbers(given: list[str] | None, *, option: str, example: str) -> dict[str, float]:
    """Numbers by language, as the option gives them."""
    found = {}
    for name, value in pairs(given, option=option).items():
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(
                f"{option} {name}={value}: give a number, for example {name}={example}"
            ) from None
    return found


def _weights(present: str) -> dict[str, float]:
    """Weights of a mix.json, or those that are written out."""
    if present.endswith(".json"):
        from babelscope.corpora.mix import Mix

        return Mix.load(Path(present)).weights
    return _numbers([one.strip() for one in present.split(",")], option="--present", example="0.3")
