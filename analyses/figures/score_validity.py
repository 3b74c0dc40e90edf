"""Each score's rank correlation with exact ablation, a panel per step."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.figures.style import INK, MARGIN, TEMPLATE, language_colours, safe
from babelscope.analyses.score_validity import ENOUGH
from babelscope.interp.neuron_scores import METHODS

ROW = 46  # px of a score


def score_validity_figure(table: pd.DataFrame, *, pivot: str, target: str) -> go.Figure:
    """A row per score, a marker per language with its interval, filled where the score is supported.

    Parameters
    ----------
    table
        `ScoreValidity.table_`.
    """
    steps, methods = sorted(table["step"].unique()), list(dict.fromkeys(table["method"]))
    languages = list(dict.fromkeys(table["language"]))
    colours = language_colours(languages, pivot=pivot, target=target)
    figure = make_subplots(
        rows=1,
        cols=len(steps),
        shared_yaxes=True,
        subplot_titles=[f"<b>step {step:,}</b>" for step in steps],
        horizontal_spacing=0.03,
    )
    for col, step in enumerate(steps, start=1):
        for number, language in enumerate(languages):
            rows = table[(table["step"] == step) & (table["language"] == language)]
            dodge = 0.16 * (number - (len(languages) - 1) / 2)
            trace = go.Scatter(
                x=rows["rho"],
                y=[methods.index(method) + dodge for method in rows["method"]],
                mode="markers",
                name=f"{safe(language)} (filled: {ENOUGH:g} or more)",
                legendgroup=language,
                showlegend=col == 1,
                marker={
                    "size": 8,
                    "color": [
                        colours[language] if finding == "supported" else "white"
                        for finding in rows["finding"]
                    ],
                    "line": {"width": 1.6, "color": colours[language]},
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": rows["high"] - rows["rho"],
                    "arrayminus": rows["rho"] - rows["low"],
                    "color": colours[language],
                    "thickness": 1.4,
                    "width": 0,
                },
                hovertext=[
                    f"{rho:.2f} ({low:.2f} to {high:.2f}), {neurons:,} neurons: {finding}"
                    for rho, low, high, neurons, finding in zip(
                        *(rows[name] for name in ("rho", "low", "high", "neurons", "finding")), strict=True
                    )
                ],
                hoverinfo="text+name",
            )
            figure.add_trace(trace, row=1, col=col)
        figure.add_vline(x=ENOUGH, line={"color": INK, "width": 1, "dash": "dot"}, row=1, col=col)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(range=[-1.05, 1.05], title_text="rank correlation")
    figure.update_yaxes(
        tickvals=list(range(len(methods))),
        ticktext=[METHODS[method].label for method in methods],
        range=[len(methods) - 0.4, -0.6],
    )
    figure.update_layout(
        template=TEMPLATE,
        margin=MARGIN | {"l": 190},
        height=ROW * len(methods) + MARGIN["t"] + MARGIN["b"],
    )
    return figure
