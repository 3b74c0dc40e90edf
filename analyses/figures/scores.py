"""Scores over steps: problems asked in the target and in the pivot, by whose text tells the answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.names import group_name
from babelscope.analyses.figures.steps import curve, select, step_panels
from babelscope.analyses.figures.style import INK, OTHERS, PIVOT, TARGET, from_zero, safe

COLOURS = {"all": INK, "pivot only": PIVOT, "both": OTHERS[0], "target only": TARGET}


def scores_figure(
    scores: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """A panel per language asked in, target first; a curve per group with Wilson intervals.

    Parameters
    ----------
    scores
        As `tables.scores` makes it.
    history
        For the learning rate.
    """
    asked = [language for language in (target, pivot) if language in set(scores["language"])]
    groups = list(dict.fromkeys(["all", *COLOURS, *scores["group"]]))
    others = [group for group in groups if group not in COLOURS]
    colours = COLOURS | {group: OTHERS[1 + i % (len(OTHERS) - 1)] for i, group in enumerate(others)}
    figure, axis = step_panels(
        scores["step"].to_numpy(),
        [[f"Asked in {safe(language)}" for language in asked]],
        heights=[320],
        history=history,
    )
    named = set()
    for col, language in enumerate(asked, start=1):
        for number, group in enumerate(groups):
            table = select(scores, language=language, group=group)
            if table.empty:
                continue
            name = safe(group_name(group, pivot=pivot, target=target))
            trace = curve(
                axis,
                table,
                y="rate",
                name=name,
                colour=colours[group],
                note=[
                    f"{n:,} of {of:,} solved" for n, of in zip(table["solved"], table["total"], strict=True)
                ],
                dodge=3 * (number - 1.5),
                legendgroup=group,
                showlegend=group not in named,
            )
            if group == "all":
                trace.update(line_dash="dash")
            figure.add_trace(trace, row=1, col=col)
            named.add(group)
    top = max(float(np.nanmax(scores["high"])), 0.05)  # small scores fill the panels as well as large ones
    figure.update_yaxes(range=from_zero(top), tickformat=".0%", row=1)
    figure.update_yaxes(title_text="problems solved", row=1, col=1)
    return figure
