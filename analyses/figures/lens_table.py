"""Lens table: the token that each layer decodes to at each position of a prompt, coloured by language.

Layers go upwards to the output, as in a drawing of the model; below are the prompt's own tokens, and above
what came next in it. All steps and prompts are in one figure, behind a slider and a menu.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from babelscope.analyses.figures.style import (
    GRID,
    INK,
    MARGIN,
    MUTED,
    TEMPLATE,
    faded,
    language_colours,
    safe,
)
from babelscope.core.languages import shown

LAST = 20  # positions that are drawn, from the prompt's end: more would not be readable
MOST_STEPS = 9
CODE = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace'
PLAIN = "#b4bbc4"  # tokens that are no language's own identifier
DEEPEST = 0.85  # opacity at probability 1: text stays readable
FAINTEST = 0.15  # at probability 0, where it is a language's: whose it is can be told
CELL = 28  # px, a row
WIDTH = 960  # px that a table can count on, for how much of a token fits
_SIGNS = {" ": "␣", "\n": "⏎", "\t": "→", "\r": "␍"}


def visible(token: str, most: int | None = None) -> str:
    """A token with its white space and control characters shown; of a long one the beginning."""
    signs = [_SIGNS.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in token]
    text = "".join(signs)
    return text if most is None or len(text) <= most else text[: most - 1] + "…"


def written(token: str, most: int | None = None) -> str:
    """A token as plotly shows it literally: no markup is read into it, nor, between dollars, TeX."""
    return _literally(visible(token, most))


def _literally(text: str) -> str:
    return html.escape(text, quote=False).replace("$", "&#36;")


def some_steps(steps: Sequence[int], *, most: int = MOST_STEPS) -> list[int]:
    """At most so many of the steps, the first and the last among them, evenly spread over their order."""
    order = sorted(steps)
    places = np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))
    return [order[place] for place in places]


def lens_table_figure(
    table: xr.Dataset, *, pivot: str | None = None, target: str | None = None, last: int = LAST
) -> go.Figure:
    """The table of one or more prompts at one or more steps.

    Parameters
    ----------
    table
        As `babelscope.interp.lens_table.spelled` says, with or without `prompt` and `step`.
    pivot, target
        Blue and vermilion; other languages have colours of their own.
    last
        Positions that are drawn, from each prompt's end.
    """
    table = table.expand_dims([name for name in ("step", "prompt") if name not in table.dims])
    languages = table["language"].to_numpy().tolist()
    colours = language_colours(languages, pivot=pivot or "", target=target or "")
    panels = [_Panel(table.isel(prompt=prompt), last) for prompt in range(table.sizes["prompt"])]
    layers = table["layer"].to_numpy()
    figure = go.Figure()
    for number, panel in enumerate(panels):
        figure.add_trace(
            go.Heatmap(
                **panel.cells(-1),
                y=[*layers, layers[-1] + 1],
                zmin=0,
                zmax=len(languages) + 1,
                colorscale=_scale([PLAIN, *(colours[language] for language in languages)]),
                showscale=False,
                xgap=1.5,
                ygap=1.5,
                texttemplate="%{text}",
                textfont={"family": CODE, "size": 11},
                hoverinfo="text",
                visible=number == 0,
            )
        )
    keys = [(f"{safe(language)}'s identifiers", colours[language]) for language in languages]
    for name, colour in (*keys, ("any other token", PLAIN)):
        marker = {"symbol": "square", "size": 11, "color": faded(colour, DEEPEST)}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker))
    steps = table["step"].to_numpy().tolist() if "step" in table.coords else []
    above = 44 + (44 if len(panels) > 1 else 0)
    below = 52 + (66 if len(steps) > 1 else 0)
    figure.update_layout(
        template=TEMPLATE,
        height=CELL * (len(layers) + 1) + above + below,
        margin={**MARGIN, "t": above, "b": below, "l": 92},
        showlegend=bool(languages),
        xaxis={**panels[0].axis, "fixedrange": True, "showline": False, "ticks": "", "tickangle": 0},
        hoverlabel={"font": {"family": CODE, "size": 12, "color": INK}, "align": "left"},
    )
    figure.update_xaxes(tickfont={"family": CODE, "size": 11, "color": INK})
    figure.update_yaxes(
        fixedrange=True,
        showgrid=False,
        ticks="",
        ticklabelstandoff=6,
        range=[layers[0] - 0.5, layers[-1] + 1.5],
        tickvals=[*layers, layers[-1] + 1],
        ticktext=[*(f"layer {layer}" for layer in layers[:-1]), "<b>output</b>", "<i>came next</i>"],
    )
    figure.add_hline(y=layers[-1] + 0.5, line={"color": INK, "width": 1.4})
    if len(panels) > 1:
        figure.update_layout(updatemenus=[_menu(panels, others=len(keys) + 1)])
    if len(steps) > 1:
        figure.update_layout(sliders=[_slider(panels, steps, below=below)])
    return figure


class _Panel:
    """One prompt: what of it is drawn, and how."""

    def __init__(self, table: xr.Dataset, last: int):
        self.about = table.isel(step=0)
        length = int((self.about["given"] >= 0).sum())
        self.before = int(self.about["start"]) + max(0, length - last)
        kept = table.isel(position=slice(max(0, length - last), length))
        values = ("text", "probability", "language_of", "token", "entropy", "given_text", "next_text", "next")
        self.of = {name: kept[name].to_numpy() for name in values}  # each with step first
        self.given, self.following = self.of["given_text"][0], self.of["next_text"][0]
        self.layers = table["layer"].to_numpy()
        self.most = max(4, int(WIDTH / len(self.given) / 6.9))

    @property
    def name(self) -> str:
        """The concept, where it comes from a probe, and the prompt's end."""
        concept, language = str(self.about["concept"].item()), str(self.about["spoken"].item())
        about = f"{concept} in {shown(language)}: " if concept and language else ""
        text = visible(str(self.about["prompt_text"].item()))
        return _literally(about + ("…" if len(text) > 40 else "") + text[-40:])

    @property
    def axis(self) -> dict[str, Any]:
        """The prompt's tokens, and how many come before them."""
        cut = f" ({self.before:,} earlier ones not shown)" if self.before else ""
        return {
            "range": [-0.5, len(self.given) - 0.5],
            "tickvals": list(range(len(self.given))),
            "ticktext": [written(token, self.most) for token in self.given],
            "title": {"text": f"tokens of the prompt{cut} · deeper: more probable · <b>bold</b>: came next"},
        }

    def cells(self, step: int) -> dict[str, Any]:
        """Colour, text and hover text of every cell at a step, and of the row of what came next."""
        whose, chance, tokens, texts = (
            self.of[name][step, :, :, 0] for name in ("language_of", "probability", "token", "text")
        )
        # Each colour has one unit of the scale, within which the probability deepens it.
        z = np.round(whose + 1 + np.clip(chance, 0.001, 0.999), 3)
        right = tokens == self.of["next"][0]
        text = [
            [self._bold(token) if hit else written(token, self.most) for token, hit in zip(*row, strict=True)]
            for row in zip(texts, right, strict=True)
        ]
        places = range(len(self.given))
        hover = [[self._hover(step, layer, place) for place in places] for layer in range(len(self.layers))]
        return {
            "z": [*z.tolist(), [0.001] * len(self.given)],
            "text": [*text, [written(token, self.most) for token in self.following]],
            "hovertext": [*hover, [self._ahead(place) for place in places]],
        }

    def _bold(self, token: str) -> str:
        return f"<b>{written(token, self.most)}</b>"

    def _hover(self, step: int, layer: int, place: int) -> str:
        cell = step, layer, place
        likely = zip(self.of["text"][cell], self.of["probability"][cell], strict=True)
        lines = [f"{chance:.1%} {written(text)}" for text, chance in likely]
        where = "output" if layer == len(self.layers) - 1 else f"layer {self.layers[layer]}"
        entropy = f"entropy {self.of['entropy'][cell]:.2f} nats"
        return "<br>".join(
            [f"{where} after {written(self.given[place])}", *lines, entropy, self._ahead(place)]
        )

    def _ahead(self, place: int) -> str:
        token = self.following[place]
        return f"came next: {written(token)}" if token else "the prompt ends here"


def _scale(colours: Sequence[str]) -> list[tuple[float, str]]:
    """A colour scale of one unit per colour, each from faint to deep."""
    unit = 1 / len(colours)
    return [
        (unit * (which + end), _over_white(colour, opacity))
        for which, colour in enumerate(colours)
        for end, opacity in ((0, FAINTEST if colour != PLAIN else 0), (1, DEEPEST))
    ]


def _over_white(colour: str, opacity: float) -> str:
    mixed = (round(255 - opacity * (255 - int(colour[i : i + 2], 16))) for i in (1, 3, 5))
    return "rgb({},{},{})".format(*mixed)


def _menu(panels: Sequence[_Panel], *, others: int) -> dict[str, Any]:
    """Which prompt is shown."""
    return {
        "type": "dropdown",
        "x": 1,
        "xanchor": "right",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 8},
        "bgcolor": "white",
        "bordercolor": GRID,
        "font": {"family": CODE, "size": 11, "color": INK},
        "buttons": [
            {
                "label": panel.name,
                "method": "update",
                "args": [
                    {"visible": [one is panel for one in panels] + [True] * others},
                    {f"xaxis.{name}": value for name, value in panel.axis.items()},
                ],
            }
            for panel in panels
        ],
    }


def _slider(panels: Sequence[_Panel], steps: Sequence[int], *, below: int) -> dict[str, Any]:
    """Which step is shown, of every prompt."""
    of_steps = [[panel.cells(step) for panel in panels] for step in range(len(steps))]
    return {
        "active": len(steps) - 1,
        "currentvalue": {"prefix": "training step ", "font": {"size": 12, "color": INK}},
        "pad": {"t": below - 62, "b": 0},
        "font": {"size": 11, "color": MUTED},
        "steps": [
            {
                "label": f"{step:,}",
                "method": "restyle",
                "args": [
                    {name: [cells[name] for cells in found] for name in ("z", "text", "hovertext")},
                    list(range(len(panels))),
                ],
            }
            for step, found in zip(steps, of_steps, strict=True)
        ],
    }
