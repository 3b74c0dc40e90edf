"""Where languages' neurons lie, where they were before, and whether the target's come from the pivot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from babelscope.analyses.chance_overlap import UNRESOLVED
from babelscope.analyses.figures.neuron_life import bar_widths
from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import (
    INK,
    NULL,
    OTHERS,
    PIVOT,
    TARGET,
    faded,
    from_zero,
    language_colours,
    safe,
)
from babelscope.analyses.neuron_flow import AT_START, EARLIER, ENDS
from babelscope.analyses.neuron_identity import FIRST

CHANCE, INSIDE = "null: random sets", "not beyond chance"


def neuron_layers_figure(
    layers: pd.DataFrame,
    parts: pd.DataFrame,
    *,
    pivot: str,
    target: str,
    history: pd.DataFrame | None = None,
) -> go.Figure:
    """A layer × step map of each language's set, and below its share in the bottom and top thirds.

    Parameters
    ----------
    layers, parts
        `NeuronLife.layers_` and `NeuronLife.parts_`.
    history
        For the learning rate.
    """
    languages = list(dict.fromkeys(layers["language"]))
    colours = language_colours(languages, pivot=pivot, target=target)
    titles = [
        [f"{safe(language)}: share of its neurons in each layer" for language in languages],
        ["Share in the bottom and top thirds of the layers"] * len(languages),
    ]
    height = int(np.clip(26 * layers["layer"].max(), 190, 420))
    figure, axis = step_panels(layers["step"].to_numpy(), titles, heights=[height, 170], history=history)
    most = float(np.nanmax([0.01, *layers["share"]]))
    for col, language in enumerate(languages, start=1):
        table = select(layers, language=language)
        figure.add_trace(_map(axis, table, name=safe(language), colour=colours[language], most=most), 1, col)
        figure.add_trace(_inside(axis, table, show=col == 1), row=1, col=col)
        for trace in _beside_chance(
            axis,
            select(parts, language=language, part=ENDS),
            name=safe(language),
            colour=colours[language],
            first=col == 1,
            new=True,
        ):
            figure.add_trace(trace, row=2, col=col)
        figure.update_yaxes(showgrid=False, tickvals=_some(layers["layer"].to_numpy()), row=1, col=col)
        figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.04], row=2, col=col)
    figure.update_yaxes(title_text="layer", row=1, col=1)
    figure.update_yaxes(title_text="share", row=2, col=1)
    return figure


def neuron_flow_figure(
    flow: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """The neurons of pivot and target at each step, stacked by whose they were at the first checkpoint.

    Parameters
    ----------
    flow
        `NeuronLife.flow_`.
    history
        For the learning rate.
    """
    table = flow.loc[(flow["compared"] == FIRST) & (flow["is"] != "none")]
    titles = [f"{safe(language)}'s neurons, by where they were at first" for language in (pivot, target)]
    figure, axis = step_panels(table["step"].to_numpy(), [titles], heights=[300], history=history)
    were = {
        "pivot": (f"only {safe(pivot)}'s", PIVOT),
        "target": (f"only {safe(target)}'s", TARGET),
        "both": ("of both", OTHERS[1]),
        "none": ("of neither", faded(NULL, 0.5)),
    }
    top = 1.0
    for col, own in enumerate(("pivot", "target"), start=1):
        counts = (
            table.loc[table["is"].isin([own, "both"])]
            .pivot_table(index="step", columns="was", values=["count", "expected"], aggfunc="sum")
            .sort_index()
        )
        steps = counts.index.to_numpy()
        for was, (name, colour) in were.items():
            count, expected = counts["count"][was], counts["expected"][was]
            figure.add_trace(
                go.Bar(
                    x=axis.at(steps),
                    y=count,
                    width=bar_widths(axis, steps),
                    customdata=np.column_stack([steps, expected]),
                    marker={"color": colour, "line": {"width": 0}},
                    hovertemplate="step %{customdata[0]:,}: %{y:,} were "
                    + name
                    + "<br>%{customdata[1]:.1f} of random sets<extra></extra>",
                    name=f"at first {name}",
                    legendgroup=was,
                    showlegend=col == 1,
                ),
                row=1,
                col=col,
            )
        top = max(top, float(counts["count"].sum(axis=1).max()))
    figure.update_yaxes(range=[0, 1.06 * top], row=1)
    figure.update_yaxes(title_text="neurons", row=1, col=1)
    figure.update_layout(barmode="stack")
    return figure


def neuron_origin_figure(
    origin: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """The share of the target's new neurons that were the pivot's, over what random sets would give.

    Parameters
    ----------
    origin
        `NeuronLife.origin_`.
    history
        For the learning rate.
    """
    references = (AT_START, EARLIER)
    titles = [f"{safe(pivot)}'s {reference}" for reference in references]
    figure, axis = step_panels(origin["step"].to_numpy(), [titles], heights=[270], history=history)
    for col, reference in enumerate(references, start=1):
        table = select(origin, reference=reference)
        name = f"new neurons of {safe(target)}"
        for trace in _beside_chance(axis, table, name=name, colour=TARGET, first=col == 1, new=col == 1):
            figure.add_trace(trace, row=1, col=col)
    most = float(np.nanmax([0.01, *origin["high"], *origin["chance_high"]]))
    figure.update_yaxes(range=from_zero(most), tickformat=".0%", row=1)
    figure.update_yaxes(title_text="share of them", row=1, col=1)
    return figure


def _beside_chance(
    axis: StepAxis, table: pd.DataFrame, *, name: str, colour: str, first: bool, new: bool
) -> list[go.Scatter]:
    """Shares over the band of random sets, filled where they are beyond it.

    `first` and `new` are whether the legend has yet to name the band, and the shares.
    """
    notes = [
        f"{count:,} of {total:,}; random sets {low:.1%} to {high:.1%}"
        for count, total, low, high in zip(
            *(table[column] for column in ("count", "total", "chance_low", "chance_high")), strict=True
        )
    ]
    null = band(
        axis,
        table,
        low="chance_low",
        high="chance_high",
        name=CHANCE,
        colour=NULL,
        opacity=0.25,
        legendgroup=CHANCE,
        showlegend=first,
    )
    points = curve(
        axis,
        table,
        y="share",
        name=f"{name} (filled: beyond chance)",
        colour=colour,
        filled=(table["verdict"] != UNRESOLVED).tolist(),
        note=notes,
        legendgroup=name,
        showlegend=new,
    )
    return [null, points]


def _map(axis: StepAxis, table: pd.DataFrame, *, name: str, colour: str, most: float) -> go.Heatmap:
    shares = table.pivot(index="layer", columns="step", values="share")
    counts = table.pivot(index="layer", columns="step", values="count")
    steps = shares.columns.to_numpy()
    return go.Heatmap(
        z=shares.to_numpy(),
        x=_edges(axis, steps),
        y=shares.index.to_numpy(),
        zmin=0,
        zmax=most,
        colorscale=[[0, "#f7f7f7"], [1, colour]],
        customdata=np.dstack([np.broadcast_to(steps, shares.shape), counts.to_numpy()]),
        hovertemplate=f"{name}, step "
        + "%{customdata[0]:,}, layer %{y}: %{z:.0%} (%{customdata[1]:,})<extra></extra>",
        showscale=False,
        xgap=0.5,
        ygap=1,
        name=name,
    )


def _edges(axis: StepAxis, steps: np.ndarray) -> Float[np.ndarray, " edge"]:
    """Of cells around the steps, half way to their neighbours."""
    at = axis.at(steps)
    between = (at[1:] + at[:-1]) / 2
    return np.concatenate([[2 * at[0] - between[0]], between, [2 * at[-1] - between[-1]]])


def _inside(axis: StepAxis, table: pd.DataFrame, *, show: bool) -> go.Scatter:
    quiet = table.loc[(table["verdict"] == UNRESOLVED) & (table["total"] > 0)]
    return go.Scatter(
        x=axis.at(quiet["step"].to_numpy()),
        y=quiet["layer"],
        mode="markers",
        marker={"color": INK, "size": 3},
        hoverinfo="skip",
        name=INSIDE,
        legendgroup=INSIDE,
        showlegend=show,
    )


def _some(layers: np.ndarray) -> list[int]:
    numbers = np.unique(layers)
    return numbers[:: -(-len(numbers) // 12)].tolist()
