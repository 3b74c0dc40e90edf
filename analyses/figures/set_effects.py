"""What ablating each language's neurons costs every language, over steps, and how specific that is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import INK, NULL, language_colours, safe, zero_line
from babelscope.analyses.set_effects import JUDGED, Finding, SetEffects

NULL_NAME = "null: matched random sets, on the own language"
SPECIFIC = "own − others, set − random (filled: supported)"


def set_effects_figure(
    found: SetEffects, *, pivot: str, target: str, mode: str = JUDGED, history: pd.DataFrame | None = None
) -> go.Figure:
    """A column per set: above the loss of every language, below its specificity.

    Parameters
    ----------
    found
        What is shown.
    mode
        Of ablation.
    history
        For the learning rate.
    """
    effects, specificity = (_in_mode(table, mode) for table in (found.table_, found.specificity_))
    sets = list(dict.fromkeys(specificity["set"]))
    colours = language_colours(sets, pivot=pivot, target=target)
    titles = [[f"{safe(name)}'s neurons" for name in sets], [""] * len(sets)]
    figure, axis = step_panels(specificity["step"].to_numpy(), titles, heights=[220, 150], history=history)
    for col, name in enumerate(sets, start=1):
        own = select(effects, set=name, measured=name)
        null = band(
            axis,
            own,
            low="null_low",
            high="null_high",
            name=NULL_NAME,
            colour=NULL,
            opacity=0.35,
            legendgroup="null",
            showlegend=col == 1,
        )
        lines = [
            curve(
                axis,
                table := select(effects, set=name, measured=language),
                y="estimate",
                name=f"on {safe(language)}",
                colour=colours[language],
                form="+.4f",
                note=[f"{size:,} neurons" for size in table["size"]],
                dodge=4.0 * place,
                legendgroup=language,
                showlegend=col == 1,
            )
            for place, language in enumerate(sets)
        ]
        judged = select(specificity, set=name)
        line = curve(
            axis,
            judged,
            y="estimate",
            name=SPECIFIC,
            colour=INK,
            form="+.4f",
            note=judged["finding"].tolist(),
            filled=(judged["finding"] == Finding.SUPPORTED).tolist(),
            legendgroup=SPECIFIC,
            showlegend=col == 1,
        )
        figure.add_traces([null, *lines], rows=1, cols=col)
        figure.add_trace(line, row=2, col=col)
    on_loss = effects.iloc[np.flatnonzero(np.isin(effects["measured"].to_numpy(), sets))]
    columns = (on_loss, ["low", "high", "null_low", "null_high"]), (specificity, ["low", "high"])
    for row, (table, ends) in enumerate(columns, start=1):
        zero_line(figure, row=row, cols=len(sets))
        figure.update_yaxes(range=_span(table[ends].to_numpy(float)), row=row)
    figure.update_yaxes(title_text="rise of loss, nats per token", row=1, col=1)
    figure.update_yaxes(title_text="specificity", row=2, col=1)
    return figure


def _in_mode(table: pd.DataFrame, mode: str) -> pd.DataFrame:
    return table.iloc[np.flatnonzero(table["mode"].to_numpy() == mode)]


def _span(values: np.ndarray) -> list[float] | None:
    """Range that holds all of them and zero; None where there are none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = min(known.min(), 0.0), max(known.max(), 0.0)
    room = 0.06 * (high - low)
    return [low - room, high + room]
