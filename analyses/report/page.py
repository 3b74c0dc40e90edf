"""A page of findings: a summary, then every figure with how to read it. Self-contained: it works offline."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from babelscope.core.files import read_toml, write_text

PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtons": [["toImage", "resetScale2d"]],
}


@dataclass(frozen=True)
class Section:
    """One part of a page; all text is plain.

    Attributes
    ----------
    anchor, title
        Where links lead, and the heading.
    says
        What was found, or why there is nothing, a sentence each.
    figure
        None where there is nothing to draw.
    shows, against, null
        The caption: what is seen, what would count against the reading, and what the null is.
    """

    anchor: str
    title: str
    says: Sequence[str]
    figure: go.Figure | None
    shows: str
    against: str
    null: str


@cache
def _captions() -> dict[str, Any]:
    return read_toml(Path(__file__).with_name("captions.toml"))


def captioned(
    anchor: str,
    *,
    says: Sequence[str],
    figure: go.Figure | None,
    reasons: Sequence[str] = (),
    **names: str,
) -> Section:
    """A section with its title and caption from `captions.toml`.

    Parameters
    ----------
    says, figure
        What was found; without either, the caption says what is missing, and `reasons` why.
    names
        What the captions' {names} stand for.
    """
    caption = {key: text.strip().format(**names) for key, text in _captions()[anchor].items()}
    missing = caption.pop("missing")
    if figure is None and not says:
        says = [missing, *reasons]
    return Section(anchor=anchor, says=says, figure=figure, **caption)


@dataclass(frozen=True)
class Answer:
    """One question of the summary: where it is answered, the sentences, a word, and how the word looks."""

    anchor: str
    question: str
    says: Iterable[str]
    status: tuple[str, str]


def write_page(
    path: str | Path,
    *,
    title: str,
    heading: str,
    series: str,
    answers: Iterable[Answer],
    parts: Sequence[Section],
    notes: Sequence[str],
    settings: Iterable[str],
) -> Path:
    """Write a page; the file appears whole or not at all.

    Parameters
    ----------
    title, heading, series
        Of the window, of the page, and the line below the heading.
    answers
        The summary.
    parts
        The page's sections, in order.
    notes
        What was left out or flagged; where empty, that nothing was.
    settings
        What a reader needs to compute the same again.
    """
    path = Path(path)
    write_text(
        path,
        PAGE.substitute(
            title=_text(title),
            languages=_text(heading),
            series=_text(series),
            summary="".join(map(_answer, answers)),
            contents="".join(f'<a href="#{part.anchor}">{_text(part.title)}</a>' for part in parts),
            sections="".join(_sections(parts)),
            notes=_list(notes or ["Nothing was left out and nothing was flagged."]),
            settings=_list(settings),
            plotly=get_plotlyjs(),
        ),
    )
    return path


def _answer(answer: Answer) -> str:
    word, mark = answer.status
    paragraphs = "".join(f"<p>{_text(sentence)}</p>" for sentence in answer.says)
    return (
        f'<div class="answer"><div class="question"><a href="#{answer.anchor}">{_text(answer.question)}</a>'
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


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _text(text: str) -> str:
    """Escaped, with minus signs: a hyphen before a number reads as a dash between two."""
    return html.escape(re.sub(r"(?<![\w.-])-(?=\d)", "−", text))
