"""Language-transferring neurons over steps, by the paper's rule and at frozen thresholds."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import from_zero, language_colours, safe

RULES = {"paper": "Selected anew at each step: a fixed 1 %", "frozen": "Thresholds of the first checkpoint"}


def neurons_figure(
    neurons: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """A panel per rule; a curve per language, over the band where text is given to languages at random.

    Parameters
    ----------
    neurons
        As `tables.neurons` makes it.
    history
        For the learning rate.
    """
    rules = [rule for rule in RULES if rule in set(neurons["rule"])]
    figure, axis = step_panels(
        neurons["step"].to_numpy(), [[RULES[rule] for rule in rules]], heights=[290], history=history
    )
    languages = list(dict.fromkeys(neurons["language"]))
    colours = language_colours(languages, pivot=pivot, target=target)
    for col, rule in enumerate(rules, start=1):
        for number, language in enumerate(languages):
            table = select(neurons, rule=rule, language=language)
            outside = (table["low"] > table["null_high"]) | (table["high"] < table["null_low"])
            null = band(
                axis,
                table,
                low="null_low",
                high="null_high",
                name=f"null, {safe(language)}",
                colour=colours[language],
                opacity=0.12,
                legendgroup=f"null {language}",
                showlegend=col == 1,
            )
            figure.add_trace(null, row=1, col=col)
            trace = curve(
                axis,
                table,
                y="count",
                name=f"{safe(language)} (filled: outside the null)",
                colour=colours[language],
                form=",.0f",
                filled=outside.tolist(),
                note=[
                    f"null {low:,.0f} to {high:,.0f}"
                    for low, high in zip(table["null_low"], table["null_high"], strict=True)
                ],
                dodge=6 * (number - (len(languages) - 1) / 2),
                legendgroup=language,
                showlegend=col == 1,
            )
            figure.add_trace(trace, row=1, col=col)
        top = max(select(neurons, rule=rule)[["high", "null_high", "count"]].max(axis=None), 1)
        figure.update_yaxes(range=from_zero(float(top)), row=1, col=col)
    figure.update_yaxes(title_text="neurons", row=1, col=1)
    return figure
