"""Languages' neurons over steps: whether they are the same ones, and when they come and go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import faded, from_zero, language_colours, safe
from babelscope.analyses.neuron_identity import BEFORE, FIRST, LAST

COMPARED = {BEFORE: "the one before", FIRST: "the first", LAST: "the last"}
SETS, HALVES, RANKS = "Same neurons as", "Between halves of the text", "Same order as"
CEILING, SELECTED, SETTLED, BORN, DIED = "ceiling", "selected", "settled", "born", "died"


def neuron_identity_figure(
    identity: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """A column per checkpoint compared with; rows for sets, sets between halves of the text, and ranks.

    Parameters
    ----------
    identity
        `NeuronLife.identity_`; without halves of the text their row is left out.
    history
        For the learning rate.
    """
    rows = [SETS, *([HALVES] if not np.isnan(identity["ceiling"].to_numpy()).all() else []), RANKS]
    titles = [
        [f"{row}: {other}" if row == HALVES else f"{row} {other}" for other in COMPARED.values()]
        for row in rows
    ]
    figure, axis = step_panels(
        identity["step"].to_numpy(), titles, heights=[190] * len(rows), history=history
    )
    languages = list(dict.fromkeys(identity["language"]))
    colours = language_colours(languages, pivot=pivot, target=target)
    draw = {SETS: _draw_sets, HALVES: _draw_halves, RANKS: _draw_ranks}
    for col, compared in enumerate(COMPARED, start=1):
        for number, language in enumerate(languages):
            table = select(identity, compared=compared, language=language)
            dodge = 6 * (number - (len(languages) - 1) / 2)
            look = _Look(safe(language), colours[language], dodge, show=col == 1)
            for row, kind in enumerate(rows, start=1):
                for trace in draw[kind](axis, table, look):
                    figure.add_trace(trace, row=row, col=col)
    lowest = float(np.nanmin([0, *identity["rank_low"], *identity["rank_chance_low"]]))
    for row, kind in enumerate(rows, start=1):
        figure.update_yaxes(range=[lowest - 0.06 if kind == RANKS else -0.06, 1.06], row=row)
        figure.update_yaxes(tickformat=".1f" if kind == RANKS else ".0%", row=row)
        figure.update_yaxes(title_text="rank correlation" if kind == RANKS else "Jaccard", row=row, col=1)
    return figure


@dataclass(frozen=True)
class _Look:
    name: str
    colour: str
    dodge: float
    show: bool

    def points(self, axis: StepAxis, table: pd.DataFrame, **more: object) -> go.Scatter:
        return curve(axis, table, colour=self.colour, dodge=self.dodge, legendgroup=self.name, **more)  # pyright: ignore[reportArgumentType]

    def null(self, axis: StepAxis, table: pd.DataFrame, of: str, *, show: bool) -> go.Scatter:
        return band(
            axis,
            table,
            low=f"{of}_low",
            high=f"{of}_high",
            name=f"null, {self.name}",
            colour=self.colour,
            opacity=0.16,
            legendgroup=f"null {self.name}",
            showlegend=show,
        )


def _draw_sets(axis: StepAxis, table: pd.DataFrame, look: _Look) -> list[go.Scatter]:
    columns = ("shared", "union", "chance_low", "chance_high")
    notes = [
        f"{shared:,} of {union:,}; random sets {low:.1%} to {high:.1%}"
        for shared, union, low, high in zip(*(table[column] for column in columns), strict=True)
    ]
    points = look.points(
        axis,
        table,
        y="jaccard",
        name=f"{look.name} (filled: outside the null)",
        filled=table["outside_null"].tolist(),
        note=notes,
        showlegend=look.show,
    )
    return [look.null(axis, table, "chance", show=look.show), points]


def _draw_halves(axis: StepAxis, table: pd.DataFrame, look: _Look) -> list[go.Scatter]:
    points = look.points(
        axis,
        table.assign(low=table["across_low"], high=table["across_high"]),
        y="across",
        name=look.name,
        filled=(table["lost_low"] > 0).tolist(),
        note=[f"{CEILING} {ceiling:.1%}" for ceiling in table["ceiling"]],
        showlegend=False,
    )
    ceiling = go.Scatter(
        x=axis.at(table["step"].to_numpy()),
        y=table["ceiling"],
        mode="lines",
        line={"color": faded(look.colour, 0.75), "width": 1.6, "dash": "dash"},
        hoverinfo="skip",
        name=f"{CEILING}, {look.name}",
        legendgroup=f"{CEILING} {look.name}",
        showlegend=look.show,
    )
    return [ceiling, points]


def _draw_ranks(axis: StepAxis, table: pd.DataFrame, look: _Look) -> list[go.Scatter]:
    points = look.points(
        axis,
        table.assign(low=table["rank_low"], high=table["rank_high"]),
        y="rank",
        name=look.name,
        form=".2f",
        showlegend=False,
    )
    return [look.null(axis, table, "rank_chance", show=False), points]


def neuron_births_figure(
    counts: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """A column per language: how many neurons it has, and below how many are born and die at each step.

    Parameters
    ----------
    counts
        `NeuronLife.counts_`.
    history
        For the learning rate.
    """
    languages = list(dict.fromkeys(counts["language"]))
    titles = [
        [f"{safe(language)}'s neurons (filled: two checkpoints in a row)" for language in languages],
        ["Born (up) and died (down) since the checkpoint before"] * len(languages),
    ]
    figure, axis = step_panels(counts["step"].to_numpy(), titles, heights=[190, 190], history=history)
    colours = language_colours(languages, pivot=pivot, target=target)
    most = float(np.nanmax([1, *counts["births"], *counts["deaths"]]))
    for col, language in enumerate(languages, start=1):
        table, colour = select(counts, language=language), colours[language]
        steps = table["step"].to_numpy()
        x, width = axis.at(steps), bar_widths(axis, steps)
        notes = [f"{safe(language)}, step {step:,}" for step in steps]
        for name, column, fill in ((SELECTED, "members", "white"), (SETTLED, "settled", colour)):
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=table[column],
                    mode="markers",
                    marker={"size": 7, "color": fill, "line": {"color": colour, "width": 1.6}},
                    hovertemplate=[f"{note}: " + "%{y:,} " + f"{name}<extra></extra>" for note in notes],
                    name=f"{safe(language)}, {name}",
                ),
                row=1,
                col=col,
            )
        for name, column, sign in ((BORN, "births", 1), (DIED, "deaths", -1)):
            figure.add_trace(
                go.Bar(
                    x=x,
                    y=sign * table[column],
                    width=width,
                    customdata=table[column],
                    marker={"color": colour if sign > 0 else faded(colour, 0.4), "line": {"width": 0}},
                    hovertemplate=[
                        f"{note}: " + "%{customdata:,} " + f"{name}<extra></extra>" for note in notes
                    ],
                    name=f"{safe(language)}, {name}",
                ),
                row=2,
                col=col,
            )
        figure.update_yaxes(range=[-1.08 * most, 1.08 * most], row=2, col=col)
    figure.update_yaxes(range=from_zero(float(max([1, *counts["members"]]))), row=1)
    figure.update_yaxes(title_text="neurons", col=1, row=1)
    figure.update_yaxes(title_text="neurons", col=1, row=2)
    figure.update_layout(barmode="relative", showlegend=False)  # the titles say it
    return figure


def bar_widths(axis: StepAxis, steps: np.ndarray) -> Float[np.ndarray, " n"]:
    """As wide as the nearer neighbour of each step leaves room for, and no wider than the axis' margin."""
    gaps = np.diff(axis.at(steps))
    return 0.8 * np.minimum(np.append(gaps, np.inf), np.append(np.inf, gaps)).clip(max=0.06 * axis.width)
