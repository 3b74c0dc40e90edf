"""Layer × step maps: what every layer decodes to, where the target's identifier is due."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.figures.style import INK, MARGIN, MUTED, PIVOT, TARGET, TEMPLATE, safe, title_panel

MOST_LABELS = 7  # steps that are written out under one map
SCALES = {
    "soft": [[0, TARGET], [0.5, "#f7f7f7"], [1, PIVOT]],
    "pivot_cells": [[0, "#f7f7f7"], [1, PIVOT]],
    "target_cells": [[0, "#f7f7f7"], [1, TARGET]],
}


SWITCH = "switch, with its interval"


def layer_map_figure(
    layers: pd.DataFrame,
    *,
    intermediate: Sequence[int],
    pivot: str,
    target: str,
    switch: pd.DataFrame | None = None,
) -> go.Figure:
    """Three maps with the steps as ordered categories, so that early checkpoints are as wide as late ones.

    Parameters
    ----------
    layers
        `PivotShare.layers_`.
    intermediate
        `PivotShare.intermediate_`: the layers below the line.
    switch
        `SwitchLayer.table_`: drawn into the first map where it is resolved, above the last layer that
        decodes to the pivot.
    """
    steps = np.unique(layers["step"])
    numbers = np.unique(layers["layer"])
    titles = {
        "soft": f"Soft share of {safe(pivot)}",
        "pivot_cells": f"Top token is {safe(pivot)}'s",
        "target_cells": f"Top token is {safe(target)}'s",
    }
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.055)
    height = int(np.clip(34 * len(numbers), 190, 460))
    figure.update_layout(
        template=TEMPLATE, height=height + 46 + 70, margin={**MARGIN, "t": 46, "b": 70, "r": 96}
    )
    every = -(-len(steps) // MOST_LABELS)
    labelled = np.arange(0, len(steps), every)
    for col, (column, title) in enumerate(titles.items(), start=1):
        table = layers.pivot(index="layer", columns="step", values=column)
        figure.add_trace(
            go.Heatmap(
                z=table.to_numpy(float),
                x=np.arange(len(steps)),
                y=numbers,
                zmin=0,
                zmax=1,
                colorscale=SCALES[column],
                xgap=1,
                ygap=1,
                customdata=np.broadcast_to(steps, table.shape),
                hovertemplate="step %{customdata:,}, layer %{y}: %{z:.0%}<extra></extra>",
                name=title,
                colorbar={
                    "orientation": "h",
                    "thickness": 8,
                    "len": 0.2,
                    "x": (0.145, 0.5, 0.855)[col - 1],
                    "y": -44 / height,
                    "yanchor": "top",
                    "tickvals": [0, 0.5, 1],
                    "tickformat": ".0%",
                    "tickfont": {"size": 11},
                    "outlinewidth": 0,
                },
            ),
            row=1,
            col=col,
        )
        title_panel(figure, title, row=1, col=col, cols=3)
        figure.add_hline(
            y=max(intermediate) + 0.5,
            line={"color": INK, "width": 1.4, "dash": "dash"},
            row=1,  # pyright: ignore[reportArgumentType]
            col=col,  # pyright: ignore[reportArgumentType]
        )
        figure.update_xaxes(
            tickvals=labelled,
            ticktext=[f"{step:,}" for step in steps[labelled]],
            tickangle=0,
            showline=False,
            title_text="training step" if col == 2 else None,
            row=1,
            col=col,
        )
    if switch is not None:
        figure.add_trace(_switches(switch, steps), row=1, col=1)
    figure.update_yaxes(
        showgrid=False,
        tickvals=numbers if len(numbers) <= 16 else None,
        range=[numbers[0] - 0.5, numbers[-1] + 0.5],
    )
    figure.update_yaxes(title_text="layer", row=1, col=1)
    figure.add_annotation(
        text="↓ intermediate",
        xref="x3 domain",
        yref="y3",
        x=1,
        y=max(intermediate) + 0.5,
        xanchor="left",
        yanchor="middle",
        showarrow=False,
        font={"size": 11, "color": MUTED},
    )
    return figure


def _switches(switch: pd.DataFrame, steps: np.ndarray) -> go.Scatter:
    """A bar on the border between two layers, and its interval."""
    found = switch.query("resolved")
    layer, low, high = (found[name].to_numpy(float) for name in ("layer", "low", "high"))
    return go.Scatter(
        x=np.searchsorted(steps, found["step"]),
        y=layer + 0.5,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": high - layer,
            "arrayminus": layer - low,
            "color": INK,
            "thickness": 1,
            "width": 0,
        },
        mode="markers",
        marker={"symbol": "line-ew", "size": 9, "line": {"color": INK, "width": 2.4}},
        customdata=np.column_stack([found["step"], layer, low, high]),
        hovertemplate="step %{customdata[0]:,}: switch after layer %{customdata[1]} (%{customdata[2]} to "
        "%{customdata[3]})<extra></extra>",
        name=SWITCH,
        showlegend=True,
    )
