"""One self-contained page: the verdict in words, then every figure with how to read it. Works offline."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from babelscope.analyses.analysis import Analysis
from babelscope.analyses.report import words
from babelscope.analyses.report.sections import Section, sections
from babelscope.core.files import write_text
from babelscope.core.languages import shown

PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtons": [["toImage", "resetScale2d"]],
}


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
    path = Path(path)
    parts = list(sections(analysis))
    pivot, target = shown(analysis.pivot), shown(analysis.target)
    write_text(
        path,
        PAGE.substitute(
            title=_text(f"{pivot} → {target}: {analysis.name}"),
            languages=_text(f"{pivot} → {target}"),
            series=_text(_series(analysis)),
            summary="".join(_summary(analysis, parts)),
            contents="".join(f'<a href="#{part.anchor}">{_text(part.title)}</a>' for part in parts),
            sections="".join(_sections(parts)),
            notes=_list(_flagged(analysis) or ["Nothing was left out and nothing was flagged."]),
            settings=_list(_settings(analysis)),
            plotly=get_plotlyjs(),
        ),
    )
    return path


def _series(analysis: Analysis) -> str:
    steps = sorted(set(analysis.losses["step"])) if analysis.losses is not None else []
    reach = f" · {len(steps)} checkpoints, steps {steps[0]:,} to {steps[-1]:,}" if steps else ""
    # A tuned lens may erase what the page is about: whoever reads it should know from the start.
    lens = f" · read with the {analysis.lens} lens" if analysis.lens != "logit" else ""
    return f"Series {analysis.name}{reach}{lens}"


def _summary(analysis: Analysis, parts: Sequence[Section]) -> Iterator[str]:
    """The four questions that the page answers, each with a mark and the sentences of its section."""
    said = {part.anchor: part.says for part in parts}
    working = analysis.working
    layers = said["layers"] if working is not None else ()
    yield _answer(
        "stages", "Stages", words.stages(analysis) or said["stages"], words.status_of_stages(analysis.stages)
    )
    yield _answer(
        "working-language",
        "Working language",
        dict.fromkeys([*said["working-language"], *layers]),  # a caution stands above both
        words.status_of_working(working),
    )
    yield _answer("mix", "Mix", said["mix"], words.status_of_mix(analysis.recommendation))
    arms = analysis.comparison
    judged = words.arms(arms) if arms is not None else said["comparison"]
    yield _answer("comparison", "Arms", judged, words.status_of_comparison(arms))


def _flagged(analysis: Analysis) -> list[str]:
    return [*(f"{one.kind}: {one.detail}" for one in analysis.findings), *analysis.notes]


def _answer(anchor: str, question: str, said: Iterable[str], status: tuple[str, str]) -> str:
    word, mark = status
    paragraphs = "".join(f"<p>{_text(sentence)}</p>" for sentence in said)
    return (
        f'<div class="answer"><div class="question"><a href="#{anchor}">{_text(question)}</a>'
        f'<span class="mark {mark}">{_text(word)}</span></div>'
        f"<div>{paragraphs}</div></div>"
    )


def _sections(parts: Iterable[Section]) -> Iterator[str]:
    number = 0
    for part in parts:
        drawn = ""
        if part.figure is not None:
            number += 1
            drawn = (
                f"<figure>{_drawing(part.figure, part.anchor)}<figcaption><b>Figure {number}.</b>"
                f" {_text(part.shows)} <b>What would count against it:</b> {_text(part.against)}"
                f" <b>Null:</b> {_text(part.null)}</figcaption></figure>"
            )
        yield f'<section id="{part.anchor}"><h2>{_text(part.title)}</h2>{_list(part.says)}{drawn}</section>'


def _drawing(figure: go.Figure, anchor: str) -> str:
    """The figure's own element; a fixed id makes the same analysis give the same page."""
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        div_id=f"figure-{anchor}",
        config=CONFIG,
    )


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


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _text(text: str) -> str:
    """Escaped, with minus signs: a hyphen before a number reads as a dash between two."""
    return html.escape(re.sub(r"(?<![\w.-])-(?=\d)", "−", text))
