"""Votes of all signals on a transition: one small panel each, over the same steps.

Shading is the transition by a signal that votes for it, or by the bend of the target's loss; bars on the axis
are the intervals of its beginning and end. The grey band through all panels is what those that vote for it
have in common.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.losses import TICKS
from babelscope.analyses.figures.stages import TINTS
from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, step_panels
from babelscope.analyses.figures.style import (
    INK,
    MUTED,
    NULL,
    OTHERS,
    PIVOT,
    TARGET,
    faded,
    from_zero,
    panel,
    safe,
)
from babelscope.analyses.signal_curve import SignalDetector
from babelscope.analyses.stage_votes import ABSTAINS, AGAINST, FOR, Found, StageVotes, Vote
from babelscope.core.stats import wilson_interval

HEIGHT = 96  # px of a panel
TITLES = {
    "score": "Problems solved in {target}",
    "pivot knowledge": "… that only {pivot}'s text answers",
    "knowledge transferred": "Knowledge transferred |P ∩ C| / |C|",
    "working language": "{pivot} in the middle layers (soft share)",
    "target neurons": "Neurons of {target}",
    "pivot neurons": "Neurons of {pivot}",
    "pivot score": "Problems solved in {pivot}",
    "pivot loss": "Held-out loss in {pivot} (log)",
    "target loss": "Held-out loss in {target} (log)",
    "identifier choice": "{target}'s identifier preferred at the end",
}
MARKS = {FOR: "✓ for", AGAINST: "✗ against", ABSTAINS: "– abstains"}
INKS = {FOR: OTHERS[0], AGAINST: TARGET, ABSTAINS: MUTED}
FORMS = {"share": ".0%", "neurons": ",.0f", "nats": ".3f"}
COMMON = "transition of all that vote for it"


def stage_votes_figure(
    votes: StageVotes, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """One panel per signal that was fitted, with its vote at the upper right.

    Parameters
    ----------
    votes
        Fitted.
    history
        For the learning rate.
    """
    shown = [vote for vote in votes.votes_ if vote.signal in votes.found_]
    titles = [TITLES[vote.signal].format(pivot=safe(pivot), target=safe(target)) for vote in shown]
    steps = np.concatenate([found.curve_.steps for found in votes.found_.values()])
    figure, axis = step_panels(
        steps, [[title] for title in titles], heights=[HEIGHT] * len(shown), history=history
    )
    for row, vote in enumerate(shown, start=1):
        _draw_when(figure, axis, vote, row=row)
        _draw_signal(figure, axis, votes.found_[vote.signal], signal=vote.signal, row=row)
        _write_vote(figure, vote, row=row)
    if votes.common_:
        first, last = axis.at(votes.common_)
        figure.add_shape(
            type="rect",
            xref="x",
            yref="paper",
            x0=float(first),
            x1=float(last),
            y0=0,
            y1=1,
            fillcolor=faded(NULL, 0.2),
            line_width=0,
            layer="below",
            name=COMMON,
        )
    return figure.update_layout(showlegend=False)


def _draw_signal(figure: go.Figure, axis: StepAxis, found: Found, *, signal: str, row: int) -> None:
    colour = PIVOT if signal.startswith("pivot") or signal == "working language" else TARGET
    table, unit = _table(found)
    name = signal[:1].upper() + signal[1:]
    fitted = table.dropna(subset="fitted")
    traces = [
        band(axis, fitted, low="fitted_low", high="fitted_high", name="band", colour=colour),
        go.Scatter(
            x=axis.at(fitted["step"].to_numpy()),
            y=fitted["fitted"],
            mode="lines",
            line={"color": colour, "width": 2},
            hoverinfo="skip",
            name="fitted",
        ),
        curve(axis, table, y="value", name=name, colour=colour, form=FORMS[unit]).update(
            mode="markers", marker_size=4.5
        ),
    ]
    for trace in traces:
        figure.add_trace(trace, row=row, col=1)
    axes: dict[str, Any] = {"row": row, "col": 1}
    if unit == "nats":
        ends = np.nanmin(table["value"]), np.nanmax(table["value"])
        inside = [tick for tick in TICKS if ends[0] <= tick <= ends[1]]
        some = inside[:: max(1, len(inside) // 3)]
        figure.update_yaxes(type="log", tickvals=some, ticktext=[f"{tick:g}" for tick in some], **axes)
    else:
        # Few solved problems leave nearly all shares possible: such an interval may leave the panel.
        most = float(np.nanmax(table[["value", "fitted_high"]].to_numpy()))
        top = min(float(np.nanmax(table["high"].to_numpy())), 2 * most) or 1.0
        figure.update_yaxes(range=from_zero(top, room=0.12), tickformat=FORMS[unit], nticks=4, **axes)


def _table(found: Found) -> tuple[pd.DataFrame, str]:
    """step, value, low, high, fitted, fitted_low, fitted_high; and the unit."""
    scored = found.curve_
    if isinstance(found, SignalDetector):
        unit, value, interval = scored.unit, scored.values, found.interval_
    else:
        unit, value = "share", scored.solved / scored.total
        interval = wilson_interval(scored.solved, scored.total)
    table = pd.DataFrame({"step": scored.steps, "value": value, "fitted": found.fitted_})
    table[["low", "high"]], table[["fitted_low", "fitted_high"]] = interval, found.band_
    return table.dropna(subset="value"), unit


def _draw_when(figure: go.Figure, axis: StepAxis, vote: Vote, *, row: int) -> None:
    if vote.when is None:
        return
    x, y = panel(row, 1, cols=1)
    first, last = axis.at(vote.when).tolist()
    figure.add_shape(
        type="rect",
        xref=x,
        yref=f"{y} domain",
        x0=first,
        x1=last,
        y0=0,
        y1=1,
        fillcolor=TINTS["falling"],
        line_width=0,
        layer="below",
        name=vote.signal,
    )
    for one in (vote.begins, vote.ends):
        if one is not None:
            low, high = axis.at([one.low, one.high]).tolist()
            figure.add_shape(
                type="line",
                xref=x,
                yref=f"{y} domain",
                x0=low,
                x1=high,
                y0=0,
                y1=0,
                line={"color": faded(INK, 0.6), "width": 5},
            )


def _write_vote(figure: go.Figure, vote: Vote, *, row: int) -> None:
    x, y = panel(row, 1, cols=1)
    when = f", {vote.when[0]:,} to {vote.when[1]:,}" if vote.when else ""
    figure.add_annotation(
        text=f"<b>{MARKS[vote.vote]}</b>{when}",
        xref=f"{x} domain",
        yref=f"{y} domain",
        x=1,
        y=1,
        xanchor="right",
        yanchor="bottom",
        yshift=4,
        showarrow=False,
        font={"size": 12, "color": INKS[vote.vote]},
    )
