"""Working language over steps: the pivot's part in what intermediate layers decode to, beside its nulls."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import NULL, PIVOT, from_zero, safe

PANELS = (("cells", "count"), ("soft", "mass"))
RANDOM_SETS, ELSEWHERE, RANDOM_MODEL = "null: random sets", "null: elsewhere", "null: random model"


def statistic_title(name: str, *, pivot: str, target: str) -> str:
    """What a statistic is, safe to show."""
    pivot, target = safe(pivot), safe(target)
    return {
        "cells": f"Top token is {pivot}'s, of all cells",
        "count": f"The same, of cells decoding to {pivot} or {target} (Eq. 1)",
        "soft": f"Soft share of {pivot}",
        "mass": f"Probability of {pivot}'s identifiers",
    }[name]


def working_language_figure(
    working: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """Four statistics with intervals and nulls; a marker is filled where its interval clears every null.

    Parameters
    ----------
    working
        `PivotShare.table_`.
    history
        For the learning rate.
    """
    titles = [[statistic_title(name, pivot=pivot, target=target) for name in row] for row in PANELS]
    figure, axis = step_panels(working["step"].to_numpy(), titles, heights=[210, 210], history=history)
    for row, names in enumerate(PANELS, start=1):
        for col, name in enumerate(names, start=1):
            table, first = select(working, statistic=name), (row, col) == (1, 1)
            for trace in draw_nulls(axis, table, showlegend=first):
                figure.add_trace(trace, row=row, col=col)
            estimate = curve(
                axis,
                table,
                y="estimate",
                name=f"{safe(pivot)} (filled: outside all nulls)",
                colour=PIVOT,
                filled=table["outside_null"].tolist(),
                note=[
                    "outside all nulls" if out else "not outside its null" for out in table["outside_null"]
                ],
                legendgroup="estimate",
                showlegend=first,
            )
            figure.add_trace(estimate, row=row, col=col)
            highest = table[["high", "random_sets_high", "elsewhere", "random_model"]].max(axis=None)
            top = 1.0 if name in ("soft", "count") else float(highest)
            figure.update_yaxes(range=from_zero(max(top, 0.02)), tickformat=".0%", row=row, col=col)
    return figure


def draw_nulls(axis: StepAxis, table: pd.DataFrame, *, showlegend: bool) -> list[go.Scatter]:
    """The three nulls of one statistic, in greys."""
    sets = band(
        axis,
        table,
        low="random_sets_low",
        high="random_sets_high",
        name=RANDOM_SETS,
        colour=NULL,
        opacity=0.35,
        legendgroup=RANDOM_SETS,
        showlegend=showlegend,
    )
    lines = [
        go.Scatter(
            x=axis.at(table["step"].to_numpy()),
            y=table[column],
            mode="lines",
            line={"color": NULL, "width": 1.6, "dash": dash},
            hovertemplate=f"{name}: " + "%{y:.1%}<extra></extra>",
            name=name,
            legendgroup=name,
            showlegend=showlegend,
        )
        for column, name, dash in (("elsewhere", ELSEWHERE, "dot"), ("random_model", RANDOM_MODEL, "dash"))
    ]
    return [sets, *lines]
