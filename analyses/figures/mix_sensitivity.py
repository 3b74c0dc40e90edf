"""What moves the mix: each target's weight as one input goes over its range, the widest first (a tornado)."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.figures.style import (
    MARGIN,
    MUTED,
    OTHERS,
    TARGET,
    TEMPLATE,
    faded,
    safe,
    title_panel,
)
from babelscope.analyses.mix_sensitivity import Swing
from babelscope.corpora.mix import Mix

RANGE = "range"


def mix_sensitivity_figure(sensitivity: Sequence[Swing], mix: Mix) -> go.Figure:
    """A row per input, a panel per target; the line is the recommended weight.

    Parameters
    ----------
    sensitivity
        `Recommendation.sensitivity`: at least one.
    mix
        `Recommendation.mix`.
    """
    targets = [name for name in mix.languages if name != mix.pivot]
    labels = [
        safe(one.name) + ("<br>(one end leaves no mix)" if one.infeasible else "") for one in sensitivity
    ]
    figure = make_subplots(rows=1, cols=len(targets), shared_yaxes=True, horizontal_spacing=0.05)
    for col, target in enumerate(targets, start=1):
        colour = TARGET if col == 1 else OTHERS[(col - 2) % len(OTHERS)]
        ends = [one.weights[target] for one in sensitivity]
        figure.add_trace(
            go.Bar(
                base=[low for low, _ in ends],
                x=[high - low for low, high in ends],
                y=labels,
                orientation="h",
                marker={"color": faded(colour, 0.6)},
                name=RANGE,
                customdata=ends,
                hovertemplate="%{y}: %{customdata[0]:.1%} to %{customdata[1]:.1%}<extra></extra>",
            ),
            row=1,
            col=col,
        )
        figure.add_vline(
            x=mix.weights[target],
            line={"color": MUTED, "width": 1.5},
            row=1,  # pyright: ignore[reportArgumentType]
            col=col,  # pyright: ignore[reportArgumentType]
        )
        title_panel(
            figure,
            f"Weight of {safe(target)} ({mix.weights[target]:.1%})",
            col=col,
            cols=len(targets),
        )
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(
        template=TEMPLATE,
        showlegend=False,
        bargap=0.35,
        height=34 * len(sensitivity) + 90,
        margin={**MARGIN, "l": 210, "t": 32},
    )
    return figure
