"""Panels over training steps: a logarithmic axis that shows step 0 too, and the learning rate below.

The axis is log10(step). Step 0, the model that training starts from, has no place on it and is put to the
left of a break. The learning rate shares the axis, because warm-up and decay imitate stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Shaped
from plotly.subplots import make_subplots

from babelscope.analyses.figures.style import GRID, MARGIN, MUTED, TEMPLATE, faded, panel, title_panel

GAP = 40  # px between rows
STRIP = 46  # px of the learning rate
RATE = "learning rate"  # the strip's trace


class StepAxis:
    """Where steps are on the page.

    Parameters
    ----------
    steps
        Those that are shown; step 0 may be among them.
    """

    def __init__(self, steps: Shaped[np.ndarray, " n"]):
        steps = np.unique(np.asarray(steps, float))
        trained = steps[steps > 0]
        self.first, self.last = (np.log10(trained[[0, -1]]) if len(trained) else np.zeros(2)).tolist()
        self.width = max(self.last - self.first, 0.3)
        self.zero = self.first - 0.11 * self.width
        self.has_zero = bool((steps == 0).any())

    def at(self, steps: Shaped[np.ndarray, "*n"] | float) -> Float[np.ndarray, "*n"]:
        """Position of each step."""
        steps = np.asarray(steps, float)
        return np.where(steps > 0, np.log10(np.where(steps > 0, steps, 1)), self.zero)

    @property
    def range(self) -> tuple[float, float]:
        left = self.zero if self.has_zero else self.first
        return left - 0.035 * self.width, self.last + 0.035 * self.width

    def ticks(self, *, sparse: bool) -> tuple[list[float], list[str]]:
        """1-2-5 steps, or powers of ten over many decades, and 0."""
        digits = (1, 2, 5) if self.width < (1.5 if sparse else 3) else (1,)
        decades = np.arange(np.floor(self.first), np.floor(self.last) + 1)
        steps = np.array([digit * 10**decade for decade in decades for digit in digits])
        inside = steps[
            (np.log10(steps) >= self.first - 0.02 * self.width)
            & (np.log10(steps) <= self.last + 0.02 * self.width)
        ]
        shown = [0.0, *inside.tolist()] if self.has_zero else inside.tolist()
        return self.at(np.array(shown)).tolist(), [f"{step:,.0f}" for step in shown]


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
    rates = _rates(history, axis)
    rows = [*heights, *([STRIP] if rates is not None else [])]
    area = sum(rows) + GAP * (len(rows) - 1)
    figure = make_subplots(
        rows=len(rows),
        cols=cols,
        shared_xaxes="columns",
        row_heights=[row / area for row in rows],
        vertical_spacing=GAP / area if len(rows) > 1 else 0,
        horizontal_spacing=0.09,
    )
    figure.update_layout(template=TEMPLATE, height=area + MARGIN["t"] + MARGIN["b"])
    places, labels = axis.ticks(sparse=cols > 1)
    figure.update_xaxes(range=axis.range, tickvals=places, ticktext=labels, minor={"ticks": ""})
    for row, of_row in enumerate(titles, start=1):
        for col, title in enumerate(of_row, start=1):
            title_panel(figure, title, row=row, col=col, cols=cols)
    for col in range(1, cols + 1):
        figure.update_xaxes(title_text="training step", row=len(rows), col=col)
        if rates is not None:
            _draw_rates(figure, axis, rates, row=len(rows), col=col)
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
    """The area between two columns, after step 0."""
    known = table[table["step"] > 0].dropna(subset=[low, high])
    x = axis.at(known["step"].to_numpy())
    return go.Scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([known[low].to_numpy(float), known[high].to_numpy(float)[::-1]]),
        fill="toself",
        fillcolor=faded(colour, opacity),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=name,
        **trace,
    )


def _rates(history: pd.DataFrame | None, axis: StepAxis) -> pd.DataFrame | None:
    if history is None or not {"step", "learning_rate"} <= set(history):
        return None
    rates = history[["step", "learning_rate"]].dropna().sort_values("step")
    at = rates["step"].to_numpy(float)
    rates = rates[(at >= 10**axis.first * 0.999) & (at <= 10**axis.last * 1.001)]
    return None if rates.empty else rates


def _draw_rates(figure: go.Figure, axis: StepAxis, rates: pd.DataFrame, *, row: int, col: int) -> None:
    strip = go.Scatter(
        x=axis.at(rates["step"].to_numpy()),
        y=rates["learning_rate"],
        customdata=rates["step"],
        hovertemplate="step %{customdata:,}: learning rate %{y:.2e}<extra></extra>",
        mode="lines",
        line={"color": MUTED, "width": 1.5},
        fill="tozeroy",
        fillcolor=faded(MUTED, 0.12),
        name=RATE,
        showlegend=False,
    )
    figure.add_trace(strip, row=row, col=col)
    top = float(rates["learning_rate"].max()) or 1.0
    figure.update_yaxes(
        range=[0, 1.15 * top],
        tickvals=[0, top],
        ticktext=["0", f"{top:.0e}".replace("e-0", "e-")],
        showgrid=False,
        title_text="rate",
        row=row,
        col=col,
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


def mark_step(figure: go.Figure, axis: StepAxis, step: float, label: str, *, row: int, col: int) -> None:
    """A thin dotted line at a step, with a label at its top."""
    figure.add_vline(
        x=float(axis.at(step)),
        line={"color": MUTED, "width": 1, "dash": "dot"},
        annotation={"text": label, "font": {"size": 11, "color": MUTED}, "bgcolor": faded(GRID, 0.6)},
        annotation_position="top",
        row=row,  # pyright: ignore[reportArgumentType]
        col=col,  # pyright: ignore[reportArgumentType]
    )
