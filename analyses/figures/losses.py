"""Held-out loss per language over steps, in nats per token; bits per byte on hovering."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.steps import curve, select, step_panels
from babelscope.analyses.figures.style import language_colours, safe

TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15)
LABELS = [f"{tick:g}" for tick in TICKS]


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
    figure, axis = step_panels(
        losses["step"].to_numpy(), [["Held-out loss (logarithmic)"]], heights=[300], history=history
    )
    languages = list(dict.fromkeys(losses["language"]))
    colours = language_colours(languages, pivot=pivot, target=target)
    for language in languages:
        table = select(losses, language=language)
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
    figure.update_yaxes(
        title_text="nats per token", type="log", tickvals=TICKS, ticktext=LABELS, row=1, col=1
    )
    return figure
