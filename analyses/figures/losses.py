"""Held-out loss per language over steps, in nats per token; bits per byte on hovering."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.steps import curve, step_panels
from babelscope.analyses.figures.style import language_colours, safe


def losses_figure(
    losses: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """A curve per language with its interval over documents.

    Parameters
    ----------
    losses
        As `tables.losses` makes it.
    history
        For the learning rate.
    """
    figure, axis = step_panels(losses["step"].to_numpy(), [["Held-out loss"]], heights=[300], history=history)
    languages = list(dict.fromkeys(losses["language"]))
    colours = language_colours(languages, pivot=pivot, target=target)
    for language in languages:
        table = losses[losses["language"] == language].sort_values("step")
        trace = curve(
            axis,
            table,
            y="nats",
            name=safe(language),
            colour=colours[language],
            form=".3f",
            note=[f"{bits:.3f} bits per byte" for bits in table["bits_per_byte"]],
        )
        figure.add_trace(trace, row=1, col=1)
    figure.update_yaxes(title_text="nats per token", rangemode="tozero", row=1, col=1)
    return figure
