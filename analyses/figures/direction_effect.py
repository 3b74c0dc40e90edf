"""What changing one layer's pivot−target direction does to the choice: over steps, and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import (
    INK,
    MARGIN,
    MUTED,
    NULL,
    OTHERS,
    PIVOT,
    TEMPLATE,
    faded,
    safe,
    title_panel,
    zero_line,
)

EFFECT = "effect (filled: outside its null)"
CURVES = (
    ("effect", PIVOT, EFFECT),
    ("mediated", OTHERS[0], "of that, by later blocks"),
)
NULL_NAME = "null: random directions"
INTERVENTIONS = ("patch", "ablate")


def _title(intervention: str, *, pivot: str) -> str:
    return {"patch": f"Set as in {safe(pivot)} code", "ablate": "Removed"}[intervention]


def direction_effect_figure(
    intermediate: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """Mean over the intermediate layers at every step; above what is done, below what later blocks add.

    Parameters
    ----------
    intermediate
        `DirectionEffects.intermediate_`.
    history
        For the learning rate.
    """
    titles = [[_title(name, pivot=pivot) for name in INTERVENTIONS], ["", ""]]
    figure, axis = step_panels(intermediate["step"].to_numpy(), titles, heights=[220, 150], history=history)
    for row, (statistic, colour, name) in enumerate(CURVES, start=1):
        rows = select(intermediate, statistic=statistic)
        for col, intervention in enumerate(INTERVENTIONS, start=1):
            table = select(rows, intervention=intervention)
            null = band(
                axis,
                table,
                low="null_low",
                high="null_high",
                name=NULL_NAME,
                colour=NULL,
                opacity=0.35,
                legendgroup="null",
                showlegend=(row, col) == (1, 1),
            )
            estimate = curve(
                axis,
                table,
                y="estimate",
                name=name,
                colour=colour,
                form="+.2f",
                filled=table["outside_null"].tolist(),
                note=["outside its null" if out else "not outside its null" for out in table["outside_null"]],
                showlegend=col == 1,
            )
            figure.add_traces([null, estimate], rows=row, cols=col)
        figure.update_yaxes(range=_span(rows), row=row)
        zero_line(figure, row=row, cols=2)
    figure.update_yaxes(title_text=f"change of log-odds, {safe(pivot)} : {safe(target)}", row=1, col=1)
    figure.update_yaxes(title_text="later blocks' part", row=2, col=1)
    return figure


def layer_effect_figure(
    table: pd.DataFrame, *, steps: Sequence[int], intermediate: Sequence[int], pivot: str, target: str
) -> go.Figure:
    """Layer by layer at a few steps: a column per step, a row per intervention.

    What lies between the effect and the dotted line is the later blocks' part.

    Parameters
    ----------
    table
        `DirectionEffects.table_`.
    steps
        Which to show.
    intermediate
        Layers left of the dashed line.
    """
    rows, cols = len(INTERVENTIONS), len(steps)
    figure = make_subplots(
        rows=rows,
        cols=cols,
        shared_xaxes="columns",  # pyright: ignore[reportArgumentType]
        shared_yaxes="rows",  # pyright: ignore[reportArgumentType]
        vertical_spacing=0.12,
        horizontal_spacing=0.03,
    )
    figure.update_layout(template=TEMPLATE, height=2 * 210 + 50 + MARGIN["t"] + MARGIN["b"])
    layers = np.unique(table["layer"])
    for row, intervention in enumerate(INTERVENTIONS, start=1):
        for col, step in enumerate(steps, start=1):
            cells = select(table, step=step, intervention=intervention)
            for trace in _by_layer(cells, showlegend=(row, col) == (1, 1)):
                figure.add_trace(trace, row=row, col=col)
            figure.add_vline(
                x=max(intermediate) + 0.5,
                line={"color": INK, "width": 1.2, "dash": "dash"},
                row=row,  # pyright: ignore[reportArgumentType]
                col=col,  # pyright: ignore[reportArgumentType]
            )
            title = f"step {step:,}" if row == 1 else ""
            if col == 1:
                title = f"{_title(intervention, pivot=pivot)}{', ' + title if title else ''}"
            title_panel(figure, title, row=row, col=col, cols=cols)
        zero_line(figure, row=row, cols=cols)
        figure.update_yaxes(title_text=f"change of log-odds, {safe(pivot)} : {safe(target)}", row=row, col=1)
        shown = [select(table, step=step, intervention=intervention, statistic="effect") for step in steps]
        figure.update_yaxes(range=_span(pd.concat(shown)), row=row)
    every = -(-len(layers) // 12)
    figure.update_xaxes(tickvals=layers[::every], range=[layers[0] - 0.5, layers[-1] + 0.5])
    figure.update_xaxes(title_text="layer that is changed", row=rows)
    return figure


def _by_layer(cells: pd.DataFrame, *, showlegend: bool) -> list[go.Scatter]:
    """Null band, what goes past the later blocks, and the effect."""
    effect, direct = (select(cells, statistic=name).sort_values(by="layer") for name in ("effect", "direct"))
    layers = effect["layer"].to_numpy()
    null = go.Scatter(
        x=np.concatenate([layers, layers[::-1]]),
        y=np.concatenate([effect["null_low"], effect["null_high"].to_numpy()[::-1]]),
        fill="toself",
        fillcolor=faded(NULL, 0.35),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=NULL_NAME,
        legendgroup="null",
        showlegend=showlegend,
    )
    past = go.Scatter(
        x=layers,
        y=direct["estimate"],
        mode="lines",
        line={"color": MUTED, "width": 1.6, "dash": "dot"},
        hovertemplate="past the later blocks, layer %{x}: %{y:+.2f}<extra></extra>",
        name="past later blocks",
        legendgroup="direct",
        showlegend=showlegend,
    )
    return [null, past, _points(effect, showlegend=showlegend)]


def _points(table: pd.DataFrame, *, showlegend: bool) -> go.Scatter:
    value, low, high = (table[column].to_numpy(float) for column in ("estimate", "low", "high"))
    out = table["outside_null"].to_numpy(bool)
    return go.Scatter(
        x=table["layer"],
        y=value,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": high - value,
            "arrayminus": value - low,
            "thickness": 1.2,
            "width": 0,
            "color": faded(PIVOT, 0.55),
        },
        customdata=np.column_stack([low, high]),
        hovertemplate="layer %{x}: %{y:+.2f} (%{customdata[0]:+.2f} to %{customdata[1]:+.2f})<extra></extra>",
        name=EFFECT,
        mode="lines+markers",
        line={"color": PIVOT, "width": 1.8},
        marker={
            "size": 7,
            "color": np.where(out, PIVOT, "white").tolist(),
            "line": {"color": PIVOT, "width": 1.6},
        },
        legendgroup=EFFECT,
        showlegend=showlegend,
    )


def _span(rows: pd.DataFrame) -> list[float]:
    """Range that holds zero, all intervals and all null bands of some rows."""
    ends = [0.0, *rows[["low", "null_low"]].min(), *rows[["high", "null_high"]].max()]
    room = 0.06 * (max(ends) - min(ends))
    return [min(ends) - room, max(ends) + room]
