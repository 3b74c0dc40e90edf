"""The learning rate, as a strip under curves over steps: warm-up and decay imitate stages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.style import MUTED, faded

STRIP = 46  # px
NAME = "learning rate"


def rates_between(history: pd.DataFrame | None, axis: StepAxis) -> Float[np.ndarray, "2 logged"] | None:
    """Steps and learning rates, where any are logged between the first and the last step shown."""
    if history is None or not {"step", "learning_rate"} <= set(history):
        return None
    rates = history[["step", "learning_rate"]].to_numpy(float).T
    inside = (np.log10(np.maximum(rates[0], 1e-9)) >= axis.first - 1e-6) & np.isfinite(rates[1])
    inside &= np.log10(np.maximum(rates[0], 1e-9)) <= axis.last + 1e-6
    return rates[:, inside] if inside.any() else None


def draw_rates(
    figure: go.Figure, axis: StepAxis, rates: Float[np.ndarray, "2 logged"], *, row: int, col: int
) -> None:
    strip = go.Scatter(
        x=axis.at(rates[0]),
        y=rates[1],
        customdata=rates[0],
        hovertemplate="step %{customdata:,}: learning rate %{y:.2e}<extra></extra>",
        mode="lines",
        line={"color": MUTED, "width": 1.5},
        fill="tozeroy",
        fillcolor=faded(MUTED, 0.12),
        name=NAME,
        showlegend=False,
    )
    figure.add_trace(strip, row=row, col=col)
    top = float(rates[1].max()) or 1.0
    figure.update_yaxes(
        range=[0, 1.15 * top],
        tickvals=[0, top],
        ticktext=["0", f"{top:.2g}".replace("e-0", "e-")],
        showgrid=False,
        row=row,
        col=col,
    )
