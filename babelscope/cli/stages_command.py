"""`babelscope stages`: stages of a score curve, from a plain table; no model is needed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from babelscope.cli.output import Json, emit, say, show


def command(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV, JSONL or Parquet with columns step, solved, total; or step, problem, passed, which "
            "is better: it tells which problems checkpoints share. Instead of step there may be tokens. A "
            "column sample numbers several completions of a problem, a column seed several training runs."
        ),
    ],
    x: Annotated[
        Literal["step", "tokens"] | None,
        typer.Option("--x", help="Over what, where the table has both; default: step."),
    ] = None,
    level: Annotated[
        float, typer.Option(help="Of every interval; breaks are tested at 5 % whatever it is.")
    ] = 0.95,
    breaks: Annotated[int, typer.Option(min=1, max=3, help="Most breaks to consider.")] = 3,
    draws: Annotated[
        int, typer.Option(min=99, help="Simulated series behind each test, and draws behind each interval.")
    ] = 999,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated series.")] = 0,
    figure: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="Write the curve with its stages as a page.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Find translation, transition and stabilization in a score curve, or say what would be needed to tell.

    "Not resolvable" is an answer, and comes with how many problems, checkpoints or training seeds would do.
    """
    from babelscope.analyses.score_curve import ScoreCurve
    from babelscope.analyses.stages import StageDetector
    from babelscope.core.errors import InputError

    if figure is not None and figure.suffix != ".html":
        raise InputError(f"--figure {str(figure)!r}: give a name that ends in .html")
    curve = ScoreCurve.from_table(table, x=x)
    found = StageDetector(max_breaks=breaks, level=level, draws=draws, seed=seed).fit(curve)
    if figure is not None:
        from babelscope.analyses.figures.stages import curve_figure
        from babelscope.core.files import write_text

        page = curve_figure(found, name=table.stem).to_html(include_plotlyjs=True, full_html=True)
        write_text(figure, page)
    if as_json:
        emit(found.to_document())
        return 0
    say(found.verdict_)
    if found.stages_:
        show("stages", [asdict(stage) for stage in found.stages_])
    if found.breaks_:
        show(f"breaks, {level:.0%} intervals", [asdict(one) for one in found.breaks_])
    say(best_in_words(found.best_step_, found.best_interval_, unit=curve.unit))
    if figure is not None:
        say(f"figure: {figure}")
    return 0


def best_in_words(step: int | None, interval: tuple[int, int] | None, *, unit: str) -> str:
    """The best checkpoint, or that there is none."""
    if step is None or interval is None:
        return "best checkpoint: none, the score does not tell checkpoints apart"
    low, high = (f"{end:,}" for end in interval)
    place = f"step {step:,}" if unit == "step" else f"{step:,} {unit}"
    return f"best checkpoint: {place} ({low} to {high})"
