"""Language identity by linear probes: a layer × step map, and curves over layers with intervals and nulls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.figures.layer_map import MOST_LABELS
from babelscope.analyses.figures.steps import select
from babelscope.analyses.figures.style import INK, MARGIN, MUTED, NULL, OTHERS, TEMPLATE, faded, title_panel

GREEN, ORANGE, SKY = OTHERS[0], OTHERS[2], OTHERS[3]
RANDOM_MODEL, PERMUTED, CHANCE = "null: random model", "null: languages permuted", "chance"


def linear_probes_figure(matched: pd.DataFrame, *, chance: float) -> go.Figure:
    """Accuracy where the token tells nothing: its distance from the random model, and itself over layers.

    Curves are of the first, the last, and the checkpoint that is farthest above the random model anywhere. In
    the map a dot marks what is not outside its nulls; a curve's marker is filled where it is.

    Parameters
    ----------
    matched
        `LanguageIdentity.of("matched")`.
    chance
        `LanguageIdentity.chance_`.
    """
    layers = np.unique(matched["layer"])
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.16, column_widths=[0.52, 0.48])
    height = int(np.clip(34 * len(layers), 230, 460))
    margin = {**MARGIN, "t": 84, "b": 70}
    figure.update_layout(template=TEMPLATE, height=height + margin["t"] + margin["b"], margin=margin)
    _draw_map(figure, matched, height=height)
    _draw_nulls(figure, matched, chance=chance)
    for (step, name), colour, dodge in zip(
        _shown_steps(matched).items(), (SKY, GREEN, ORANGE), (-0.06, 0, 0.06), strict=False
    ):
        trace = _over_layers(select(matched, step=step).sort_values(by="layer"), name, colour, dodge=dodge)
        figure.add_trace(trace, row=1, col=2)
    title_panel(figure, "Accuracy above the random model's", row=1, col=1, cols=2)
    title_panel(figure, "Accuracy over layers", row=1, col=2, cols=2)
    figure.update_yaxes(title_text="layer", showgrid=False, tickvals=_some(layers), row=1, col=1)
    figure.update_xaxes(title_text="layer", tickvals=_some(layers), row=1, col=2)
    # The intervals' ends, with room for a marker.
    bottom = min(chance, float(matched[["low", "random_model"]].min(axis=None)))
    figure.update_yaxes(tickformat=".0%", range=[bottom - 0.03, 1.03], row=1, col=2)
    return figure


def _some(layers: np.ndarray) -> list[int]:
    every = -(-len(layers) // 16)
    return layers[::every].tolist()


def _shown_steps(matched: pd.DataFrame) -> dict[int, str]:
    """First, best and last step with their names; one that is two of these appears once."""
    steps = matched["step"].to_numpy()
    best = steps[matched["above_random"].to_numpy().argmax()]
    names: dict[int, str] = {}
    for step, role in ((steps.min(), "first"), (best, "farthest up"), (steps.max(), "last")):
        names[step] = f"{names[step]}, {role}" if step in names else f"step {step:,}: {role}"
    return names


def _draw_map(figure: go.Figure, matched: pd.DataFrame, *, height: int) -> None:
    table = matched.pivot(index="layer", columns="step", values="above_random")
    inside = ~matched.pivot(index="layer", columns="step", values="outside_null").to_numpy(bool)
    estimate = matched.pivot(index="layer", columns="step", values="estimate").to_numpy()
    steps, layers = table.columns.to_numpy(), table.index.to_numpy()
    reach = max(0.01, float(np.abs(table.to_numpy()).max()))
    figure.add_trace(
        go.Heatmap(
            z=table.to_numpy(),
            x=np.arange(len(steps)),
            y=layers,
            zmin=-reach,
            zmax=reach,
            colorscale=[[0, ORANGE], [0.5, "#f7f7f7"], [1, GREEN]],
            xgap=1,
            ygap=1,
            customdata=np.dstack([np.broadcast_to(steps, table.shape), estimate]),
            hovertemplate="step %{customdata[0]:,}, layer %{y}: %{z:+.1%}"
            "<br>accuracy %{customdata[1]:.1%}<extra></extra>",
            colorbar={
                "orientation": "h",
                "thickness": 8,
                "len": 0.3,
                "x": 0.22,
                "y": -44 / height,
                "yanchor": "top",
                "tickformat": "+.0%",
                "nticks": 5,
                "tickfont": {"size": 11},
                "outlinewidth": 0,
            },
            name="above the random model",
        ),
        row=1,
        col=1,
    )
    row, column = np.nonzero(inside)
    figure.add_trace(
        go.Scatter(
            x=column,
            y=layers[row],
            mode="markers",
            marker={"color": INK, "size": 3},
            hoverinfo="skip",
            name="not outside its nulls",
            showlegend=len(row) > 0,
        ),
        row=1,
        col=1,
    )
    labelled = np.arange(0, len(steps), -(-len(steps) // MOST_LABELS))
    figure.update_xaxes(
        title_text="training step",
        tickvals=labelled,
        ticktext=[f"{step:,}" for step in steps[labelled]],
        tickangle=0,
        showline=False,
        range=[-0.5, len(steps) - 0.5],
        row=1,
        col=1,
    )


def _draw_nulls(figure: go.Figure, matched: pd.DataFrame, *, chance: float) -> None:
    """The random model, the highest of the permuted languages over steps, and chance."""
    layers = np.unique(matched["layer"])
    random, permuted = (
        matched.pivot(index="layer", columns="step", values=column).to_numpy().max(1)
        for column in ("random_model", "permuted")
    )
    lines = (
        (random, RANDOM_MODEL, "dash", NULL),
        (permuted, PERMUTED, "dot", NULL),
        (np.full(len(layers), chance), CHANCE, "solid", faded(MUTED, 0.4)),
    )
    for values, name, dash, colour in lines:
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=values,
                mode="lines",
                line={"color": colour, "width": 1.6, "dash": dash},
                hovertemplate=f"{name}, layer " + "%{x}: %{y:.1%}<extra></extra>",
                name=name,
            ),
            row=1,
            col=2,
        )


def _over_layers(table: pd.DataFrame, name: str, colour: str, *, dodge: float) -> go.Scatter:
    """One checkpoint's accuracies with their intervals."""
    return go.Scatter(
        x=table["layer"] + dodge,
        y=table["estimate"],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": table["high"] - table["estimate"],
            "arrayminus": table["estimate"] - table["low"],
            "thickness": 1.2,
            "width": 0,
            "color": faded(colour, 0.55),
        },
        customdata=table[["layer", "low", "high"]],
        hovertemplate=f"{name}, layer "
        + "%{customdata[0]}: %{y:.1%} (%{customdata[1]:.1%} to %{customdata[2]:.1%})<extra></extra>",
        mode="lines+markers",
        line={"color": colour, "width": 1.8},
        marker={
            "size": 7,
            "color": np.where(table["outside_null"], colour, "white"),
            "line": {"color": colour, "width": 1.6},
        },
        name=name,
    )
