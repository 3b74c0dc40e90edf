"""Proportion of the pivot's system over steps, by both estimators, and by how much they disagree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, mark_step, step_panels
from babelscope.analyses.figures.style import INK, MUTED, PIVOT, safe
from babelscope.analyses.proportion import LossProportion, WorkingLanguageProportion

BY_LOSS, BY_LANGUAGE, SENSITIVITY = "by held-out loss", "by working language", "other α, shorter run"
RANGE = (-0.15, 1.25)  # P by loss has no bounds; beyond these it is drawn on the edge and told on hovering


def proportion_figure(
    loss: LossProportion | None,
    language: WorkingLanguageProportion | None,
    *,
    pivot: str,
    disagreement: pd.DataFrame | None = None,
    history: pd.DataFrame | None = None,
) -> go.Figure:
    """Both estimates of the pivot's share, and where both have a line, the difference of the lines.

    Parameters
    ----------
    loss, language
        Fitted; at least one of them.
    disagreement
        As `trend.disagreement` makes it.
    history
        For the learning rate.
    """
    titles = [f"Proportion of the {safe(pivot)} system"]
    if disagreement is not None:
        titles.append("δ: by loss − by working language")
    steps = np.concatenate([one.steps_ for one in (loss, language) if one is not None])
    figure, axis = step_panels(steps, [titles], heights=[310], history=history)
    if loss is not None:
        _draw_loss(figure, axis, loss)
    if language is not None:
        figure.add_trace(
            curve(
                axis, language.to_frame(), y="proportion", name=BY_LANGUAGE, colour=PIVOT, form=".2f", dodge=3
            ),
            row=1,
            col=1,
        )
    for step, label in ((loss.alpha_step_, "α"), (loss.beta_step_, "β")) if loss is not None else ():
        mark_step(figure, axis, step, label, row=1, col=1, cols=len(titles))
    figure.update_yaxes(range=RANGE, tickformat=".0%", row=1, col=1)
    if disagreement is not None:
        _draw_disagreement(figure, axis, disagreement)
    return figure


def _draw_loss(figure: go.Figure, axis: StepAxis, loss: LossProportion) -> None:
    table = loss.to_frame()
    figure.add_trace(
        band(axis, table, low="band_low", high="band_high", name=SENSITIVITY, colour=MUTED, opacity=0.2),
        row=1,
        col=1,
    )
    told = [
        f"band {low:.2f} to {high:.2f}<br>loss {nats:.3f}"
        for low, high, nats in zip(table["band_low"], table["band_high"], table["loss"], strict=True)
    ]
    clipped = table.assign(**{name: table[name].clip(*RANGE) for name in ("proportion", "low", "high")})
    whole, trace = (
        curve(axis, drawn, y="proportion", name=BY_LOSS, colour=INK, form=".2f", note=told, dodge=-3)
        for drawn in (table, clipped)
    )
    figure.add_trace(trace.update(customdata=whole.customdata, cliponaxis=False), row=1, col=1)


def _draw_disagreement(figure: go.Figure, axis: StepAxis, disagreement: pd.DataFrame) -> None:
    figure.add_trace(
        band(
            axis,
            disagreement,
            low="low",
            high="high",
            name="δ, interval",
            colour=MUTED,
            opacity=0.3,
            showlegend=False,
        ),
        row=1,
        col=2,
    )
    figure.add_trace(
        curve(axis, disagreement, y="delta", name="δ", colour=INK, form="+.3f", showlegend=False).update(
            error_y=None
        ),
        row=1,
        col=2,
    )
    figure.add_hline(
        y=0,
        line={"color": MUTED, "width": 1},
        row=1,  # pyright: ignore[reportArgumentType]
        col=2,  # pyright: ignore[reportArgumentType]
    )
    figure.update_yaxes(tickformat="+.2f", row=1, col=2)
