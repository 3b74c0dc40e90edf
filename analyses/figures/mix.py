"""The recommended mix: sampling weights and unique tokens, each with what is not known about it."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.figures.style import (
    MARGIN,
    MUTED,
    TEMPLATE,
    faded,
    language_colours,
    safe,
    title_panel,
)
from babelscope.analyses.mix import TargetEstimate
from babelscope.corpora.mix import Mix

WEIGHT, TOKENS, INTERVAL, BAND, EXISTS = "sampling weight", "unique tokens", "interval", "band", "exists"


def mix_figure(mix: Mix, targets: dict[str, TargetEstimate]) -> go.Figure:
    """Weights on the left, unique tokens on the right; a row per language.

    Parameters
    ----------
    mix
        What is recommended.
    targets
        The estimates behind it: `Recommendation.targets`.
    """
    names = list(mix.languages)
    colours = language_colours(names, pivot=mix.pivot, target=next(iter(targets), mix.pivot))
    colours[mix.pivot] = language_colours([], pivot=mix.pivot, target="")[mix.pivot]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.07)
    for name in names:
        share, colour = mix.languages[name], colours[name]
        if share.weight_interval:
            figure.add_trace(_span(share.weight_interval, name, colour, INTERVAL), row=1, col=1)
        hover = f"{safe(name)}: {share.weight:.1%}"
        figure.add_trace(_dot(share.weight, name, colour, WEIGHT, hover), row=1, col=1)
        if name in targets:
            one = targets[name]
            figure.add_trace(_span(one.tokens_band, name, colour, BAND), row=1, col=2)
            figure.add_trace(_span(one.tokens_interval, name, colour, INTERVAL), row=1, col=2)
            figure.add_trace(_limit(one.available_tokens, name), row=1, col=2)
        if share.unique_tokens is not None:
            hover = f"{safe(name)}: {share.unique_tokens:,} unique tokens"
            figure.add_trace(_dot(share.unique_tokens, name, colour, TOKENS, hover), row=1, col=2)
    figure.update_layout(
        template=TEMPLATE,
        showlegend=False,
        height=46 * len(names) + 90,
        margin={**MARGIN, "l": 90, "t": 32},
    )
    title_panel(figure, "Share of the training tokens", col=1, cols=2)
    title_panel(figure, "Unique tokens (| what exists)", col=2, cols=2)
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", row=1, col=1)
    figure.update_xaxes(rangemode="tozero", tickformat="~s", row=1, col=2)
    figure.update_yaxes(
        tickvals=names,
        ticktext=[safe(name) for name in names],
        range=[len(names) - 0.5, -0.5],
        type="category",
    )
    return figure


def _dot(x: float, name: str, colour: str, what: str, hover: str) -> go.Scatter:
    marker = {"size": 11, "color": colour, "line": {"color": "white", "width": 1}}
    return go.Scatter(
        x=[x], y=[name], mode="markers", marker=marker, name=what, hovertemplate=hover + "<extra></extra>"
    )


def _span(ends: Sequence[float], name: str, colour: str, what: str) -> go.Scatter:
    """A thick line for the interval; a wide, pale one for the band of other choices."""
    line = (
        {"color": faded(colour, 0.22), "width": 16}
        if what == BAND
        else {"color": faded(colour, 0.75), "width": 4}
    )
    low, high = (f"{end:.1%}" if max(ends) <= 1 else f"{end:,.0f}" for end in ends)
    return go.Scatter(
        x=list(ends),
        y=[name, name],
        mode="lines",
        line=line,
        name=what,
        hovertemplate=f"{safe(name)}, {what}: {low} to {high}<extra></extra>",
    )


def _limit(tokens: int, name: str) -> go.Scatter:
    return go.Scatter(
        x=[tokens],
        y=[name],
        mode="markers",
        marker={"symbol": "line-ns", "size": 22, "line": {"color": MUTED, "width": 2}},
        name=EXISTS,
        hovertemplate=f"{safe(name)}: {tokens:,} tokens exist<extra></extra>",
    )
