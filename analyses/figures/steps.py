"""Panels over training steps, with the learning rate below, and what is drawn in them: curves and bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Shaped
from plotly.subplots import make_subplots

from babelscope.analyses.figures.learning_rate import NAME, STRIP, draw_rates, rates_between
from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.style import MARGIN, MUTED, TEMPLATE, faded, panel, title_panel

GAP = 40  # px between rows
BAR = 30  # width of a band at step 0, thousandths of the axis


def select(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Rows that have these values, by step: one curve."""
    chosen = np.logical_and.reduce([table[name].to_numpy() == value for name, value in values.items()])
    return table.iloc[np.flatnonzero(chosen)].sort_values(by="step").reset_index(drop=True)


def step_panels(
    steps: Shaped[np.ndarray, " n"],
    titles: Sequence[Sequence[str]],
    *,
    heights: Sequence[int],
    history: pd.DataFrame | None,
) -> tuple[go.Figure, StepAxis]:
    """An empty grid of panels over steps, with the learning rate under every column.

    Parameters
    ----------
    steps
        All steps that will be shown.
    titles
        One per panel, by row and column; already safe.
    heights
        Pixels of each row.
    history
        With `step` and `learning_rate`; without the latter there is no strip.

    Returns
    -------
    figure, axis
    """
    axis, cols = StepAxis(steps), len(titles[0])
    rates = rates_between(history, axis)
    rows = [*heights, *([STRIP] if rates is not None else [])]
    area = sum(rows) + GAP * (len(rows) - 1)
    figure = make_subplots(
        rows=len(rows),
        cols=cols,
        shared_xaxes="columns",  # pyright: ignore[reportArgumentType]
        row_heights=[row / area for row in rows],
        vertical_spacing=GAP / area if len(rows) > 1 else 0,
        horizontal_spacing=0.09,
    )
    figure.update_layout(template=TEMPLATE, height=area + MARGIN["t"] + MARGIN["b"])
    places, labels = axis.ticks(most=12 // cols)
    figure.update_xaxes(range=axis.range, tickvals=places, ticktext=labels)
    for row, of_row in enumerate(titles, start=1):
        for col, title in enumerate(of_row, start=1):
            title_panel(figure, title, row=row, col=col, cols=cols)
    for col in range(1, cols + 1):
        figure.update_xaxes(title_text="training step", row=len(rows), col=col)
        if rates is not None:
            draw_rates(figure, axis, rates, row=len(rows), col=col)
            title_panel(figure, NAME, row=len(rows), col=col, cols=cols, quiet=True)
        for row in range(1, len(rows) + 1) if axis.has_zero else ():
            _mark_break(figure, axis, *panel(row, col, cols=cols))
    return figure, axis


def curve(
    axis: StepAxis,
    table: pd.DataFrame,
    *,
    y: str,
    name: str,
    colour: str,
    form: str = ".1%",
    note: Sequence[str] | None = None,
    filled: Sequence[bool] | None = None,
    dodge: float = 0.0,
    **trace: object,
) -> go.Scatter:
    """Points with their intervals, joined from the first trained step on.

    Parameters
    ----------
    table
        With step, `y`, low and high.
    name
        Already safe.
    form
        d3 format of the values.
    note
        A further line of what is shown on hovering, per row.
    filled
        Where the marker is filled; hollow elsewhere. All, if None.
    dodge
        Shift in thousandths of the axis, so that intervals of several curves do not hide each other.
    """
    table = table.reset_index(drop=True)
    value, low, high = (table[column].to_numpy(float) for column in (y, "low", "high"))
    full = np.ones(len(table), bool) if filled is None else np.asarray(filled, bool)
    lines = [
        f"{name}<br>step {step:,.0f}: " + "%{customdata[0]:" + form + "} (%{customdata[1]:" + form + "} to "
        "%{customdata[2]:" + form + "})" + (f"<br>{extra}" if extra else "") + "<extra></extra>"
        for step, extra in zip(table["step"], note or [""] * len(table), strict=True)
    ]
    order = np.arange(len(table))
    # A row without a value after step 0: a line across the break would claim steps that were never taken.
    gap = np.flatnonzero(table["step"].to_numpy() == 0) + 1
    order = np.insert(order.astype(float), gap, np.nan) if len(table) > 1 else order.astype(float)
    pick = np.nan_to_num(order).astype(int)

    def spaced(values: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(order), np.nan, values[pick])

    return go.Scatter(
        x=spaced(axis.at(table["step"].to_numpy()) + dodge / 1000 * axis.width),
        y=spaced(value),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": spaced(high - value),
            "arrayminus": spaced(value - low),
            "thickness": 1.2,
            "width": 0,
            "color": faded(colour, 0.55),
        },
        customdata=np.column_stack([value, low, high])[pick],
        hovertemplate=[lines[i] for i in pick],
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 1.8},
        marker={
            "size": 7,
            "color": [colour if full[i] else "white" for i in pick],
            "line": {"color": colour, "width": 1.6},
        },
        **trace,
    )


def band(
    axis: StepAxis,
    table: pd.DataFrame,
    *,
    low: str,
    high: str,
    name: str,
    colour: str,
    opacity: float = 0.18,
    **trace: object,
) -> go.Scatter:
    """The area between two columns; at step 0, across the break, a short bar of its own."""
    step, bottom, top = (table[column].to_numpy(float) for column in ("step", low, high))
    known = np.isfinite(bottom) & np.isfinite(top)
    at_zero, trained = known & (step == 0), known & (step > 0)
    x, half = axis.at(step[trained]), BAR / 2000 * axis.width
    gap = np.full(int(at_zero.any() and trained.any()), np.nan)
    bar = np.repeat(axis.zero + half * np.array([-1, -1, 1, 1]), at_zero.sum())
    ends = np.concatenate([bottom[at_zero], top[at_zero]])
    return go.Scatter(
        x=np.concatenate([bar, gap, x, x[::-1]]),
        y=np.concatenate([ends, ends[::-1], gap, bottom[trained], top[trained][::-1]]),
        fill="toself",
        fillcolor=faded(colour, opacity),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=name,
        **trace,
    )


def _mark_break(figure: go.Figure, axis: StepAxis, x: str, y: str) -> None:
    """Two strokes across the axis line, between step 0 and the first trained step."""
    figure.add_annotation(
        text="//",
        xref=x,
        yref=f"{y} domain",
        x=(axis.zero + axis.first) / 2,
        y=0,
        showarrow=False,
        yanchor="middle",
        font={"size": 11, "color": MUTED},
        bgcolor="white",
        borderpad=0,
    )


def mark_step(
    figure: go.Figure, axis: StepAxis, step: float, label: str, *, row: int, col: int, cols: int
) -> None:
    """A thin dotted line at a step, labelled at its top; to be drawn after the panel's traces."""
    at, (x, y) = float(axis.at(step)), panel(row, col, cols=cols)
    figure.add_shape(
        type="line",
        xref=x,
        yref=f"{y} domain",
        x0=at,
        x1=at,
        y0=0,
        y1=1,
        line={"color": MUTED, "width": 1, "dash": "dot"},
    )
    figure.add_annotation(
        text=label,
        xref=x,
        yref=f"{y} domain",
        x=at,
        y=1,
        xanchor="right",
        yanchor="top",
        showarrow=False,
        font={"size": 12, "color": MUTED},
    )
