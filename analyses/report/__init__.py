"""One self-contained page: the verdict in words, then every figure with how to read it. Works offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from babelscope.analyses.analysis import Analysis
from babelscope.analyses.report import words
from babelscope.analyses.report.page import Answer, Section, write_page
from babelscope.analyses.report.sections import sections
from babelscope.core.languages import shown


def report(analysis: Analysis, path: str | Path) -> Path:
    """Write the page.

    Parameters
    ----------
    analysis
        Of one series, with the comparison of arms where there is one.
    path
        Of the HTML file; it appears whole or not at all.

    Returns
    -------
    Path
        The file.
    """
    parts = list(sections(analysis))
    heading = f"{shown(analysis.pivot)} → {shown(analysis.target)}"
    return write_page(
        path,
        title=f"{heading}: {analysis.name}",
        heading=heading,
        series=_series(analysis),
        answers=_summary(analysis, parts),
        parts=parts,
        notes=_flagged(analysis),
        settings=_settings(analysis),
    )


def _series(analysis: Analysis) -> str:
    steps = sorted(set(analysis.losses["step"])) if analysis.losses is not None else []
    reach = f" · {len(steps)} checkpoints, steps {steps[0]:,} to {steps[-1]:,}" if steps else ""
    # A tuned lens may erase what the page is about: whoever reads it should know from the start.
    lens = f" · read with the {analysis.lens} lens" if analysis.lens != "logit" else ""
    return f"Series {analysis.name}{reach}{lens}"


def _summary(analysis: Analysis, parts: Sequence[Section]) -> Iterator[Answer]:
    """The four questions that the page answers, each with a mark and the sentences of its section."""
    said = {part.anchor: part.says for part in parts}
    working = analysis.working
    layers = said["layers"] if working is not None else ()
    yield Answer(
        "stages", "Stages", words.stages(analysis) or said["stages"], words.status_of_stages(analysis.stages)
    )
    yield Answer(
        "working-language",
        "Working language",
        dict.fromkeys([*said["working-language"], *layers]),  # a caution stands above both
        words.status_of_working(working),
    )
    yield Answer("mix", "Mix", said["mix"], words.status_of_mix(analysis.recommendation))
    arms = analysis.comparison
    judged = words.arms(arms) if arms is not None else said["comparison"]
    yield Answer("comparison", "Arms", judged, words.status_of_comparison(arms))


def _flagged(analysis: Analysis) -> list[str]:
    return [*(f"{one.kind}: {one.detail}" for one in analysis.findings), *analysis.notes]


def _settings(analysis: Analysis) -> Iterator[str]:
    """What a reader needs to compute the same again."""
    for name, found in analysis.stages.items():
        asked = f"{found.curve_.total.min():,} problems per checkpoint"
        yield (
            f"Stages by {name}: up to {found.max_breaks} breaks, level {found.level:.0%}, {found.draws}"
            f" simulated series, seed {found.seed}; {asked}; training noise {found.training_noise_:.2f}"
            " in the logit."
        )
    if analysis.working is not None:
        listed = ", ".join(map(str, analysis.working.intermediate_))
        last = analysis.working.layers_["layer"].max()
        yield f"Working language: intermediate layers {listed} of {last}, read with the {analysis.lens} lens."
    if analysis.loss_proportion is not None:
        loss = analysis.loss_proportion
        yield (
            f"Proportion by loss: α = {loss.alpha_:.4f} at step {loss.alpha_step_:,}, β = {loss.beta_:.4f} at"
            f" step {loss.beta_step_:,}, warm-up {loss.warmup_steps:,} steps, {loss.resamples:,} resamples of"
            f" the documents, seed {loss.seed}; {len(loss.variants_)} choices of α and run length in the"
            " band."
        )
    if analysis.comparison is not None:
        arms = analysis.comparison
        yield (
            f"Arms: scored on {arms.problem_set}; smallest gain worth having, stated beforehand,"
            f" {arms.minimum_gain:.3f}; {arms.resamples:,} resamples of the problems, seed {arms.seed}."
        )
