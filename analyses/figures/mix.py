"""The recommended mix against the present one: weights and unique tokens, with what is not known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.figures.style import (
    INK,
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
PRESENT, WANTED, CHANGE, ALLOWED = "present weight", "wanted weight", "change", "allowed"
LEGEND = {
    WEIGHT: "recommended",
    INTERVAL: "interval",
    PRESENT: "present",
    WANTED: "wanted",
    ALLOWED: "limit",
    BAND: "other choices of α and run length",
}
LARGE, SMALL = 11, 8  # px


def mix_figure(mix: Mix, targets: dict[str, TargetEstimate]) -> go.Figure:
    """Weights on the left, unique tokens on the right; a row per language.

    Parameters
    ----------
    mix
        What is recommended; where it holds them, with present and wanted weights and what is allowed.
    targets
        The estimates behind it: `Recommendation.targets`.
    """
    names = list(mix.languages)
    colours = language_colours(names, pivot=mix.pivot, target=next(iter(targets), mix.pivot))
    colours[mix.pivot] = language_colours([], pivot=mix.pivot, target="")[mix.pivot]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.07)
    for name in names:
        for trace in _weights(mix, name, colours[name]):
            figure.add_trace(trace, row=1, col=1)
        for trace in _tokens(mix, targets.get(name), name, colours[name]):
            figure.add_trace(trace, row=1, col=2)
    _explain(figure)
    figure.update_layout(template=TEMPLATE, height=46 * len(names) + 130, margin={**MARGIN, "l": 90, "t": 64})
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


def _weights(mix: Mix, name: str, colour: str) -> list[go.Scatter]:
    share, traces = mix.languages[name], []
    if share.weight_bounds:
        ends = [bound for bound in share.weight_bounds if 0 < bound < 1]
        traces.append(_ticks(ends, name, ALLOWED, INK, "limit at %{x:.1%}"))
    if share.present_weight is not None:
        ends = (share.present_weight, share.weight)
        traces.append(_span(ends, name, MUTED, CHANGE))
    if share.weight_interval:
        traces.append(_span(share.weight_interval, name, colour, INTERVAL))
    if share.wanted_weight is not None and abs(share.wanted_weight - share.weight) > 1e-6:
        hover = f"{safe(name)}: {share.wanted_weight:.1%} wanted before limits"
        traces.append(_dot(share.wanted_weight, name, colour, WANTED, hover, symbol="x-thin", size=SMALL))
    if share.present_weight is not None:
        hover = f"{safe(name)}: {share.present_weight:.1%} at present"
        traces.append(_dot(share.present_weight, name, colour, PRESENT, hover, symbol="circle-open"))
    traces.append(_dot(share.weight, name, colour, WEIGHT, f"{safe(name)}: {share.weight:.1%}"))
    return traces


def _tokens(mix: Mix, target: TargetEstimate | None, name: str, colour: str) -> list[go.Scatter]:
    share, traces = mix.languages[name], []
    if target is not None:
        traces = [
            _span(target.tokens_band, name, colour, BAND),
            _span(target.tokens_interval, name, colour, INTERVAL),
            _ticks((target.available_tokens,), name, EXISTS, MUTED, "%{x:,} tokens exist"),
        ]
    if share.unique_tokens is not None:
        hover = f"{safe(name)}: {share.unique_tokens:,} unique tokens"
        traces.append(_dot(share.unique_tokens, name, colour, TOKENS, hover))
    return traces


def _explain(figure: go.Figure) -> None:
    """One entry of the legend for each kind of mark that is there."""
    told: set[str] = set()
    drawn: list[Any] = list(figure.select_traces())
    for trace in drawn:
        kind = str(trace.name)
        shown = kind in LEGEND and kind not in told
        told.add(kind)
        trace.update(showlegend=False)
        if shown:
            # A mark of its own, grey: colours are languages.
            marker, line = trace.marker, trace.line
            figure.add_trace(
                go.Scatter(
                    x=[None],
                    y=[None],
                    mode=trace.mode,
                    name=LEGEND[kind],
                    marker={"symbol": marker.symbol, "size": marker.size, "color": MUTED}
                    | {"line": {"color": MUTED, "width": marker.line.width}},
                    line={"color": faded(MUTED, 0.3 if kind == BAND else 0.75), "width": line.width},
                )
            )


def _dot(
    x: float, name: str, colour: str, what: str, hover: str, *, symbol: str = "circle", size: int = LARGE
) -> go.Scatter:
    edge = {"color": "white", "width": 1} if symbol == "circle" else {"color": colour, "width": 2}
    marker = {"size": size, "symbol": symbol, "color": colour, "line": edge}
    return go.Scatter(
        x=[x], y=[name], mode="markers", marker=marker, name=what, hovertemplate=hover + "<extra></extra>"
    )


def _span(ends: Sequence[float], name: str, colour: str, what: str) -> go.Scatter:
    """A thick line for the interval, a wide and pale one for the band of other choices, a thin one between
    present and recommended."""
    opacity, width = {BAND: (0.22, 16), CHANGE: (0.8, 1)}.get(what, (0.75, 4))
    low, high = (f"{end:.1%}" if max(ends) <= 1 else f"{end:,.0f}" for end in ends)
    return go.Scatter(
        x=list(ends),
        y=[name, name],
        mode="lines",
        line={"color": faded(colour, opacity), "width": width},
        name=what,
        hovertemplate=f"{safe(name)}, {what}: {low} to {high}<extra></extra>",
    )


def _ticks(at: Sequence[float], name: str, what: str, colour: str, hover: str) -> go.Scatter:
    return go.Scatter(
        x=list(at),
        y=[name] * len(at),
        mode="markers",
        marker={"symbol": "line-ns", "size": 22, "line": {"color": colour, "width": 2}},
        name=what,
        hovertemplate=f"{safe(name)}: {hover}<extra></extra>",
    )
