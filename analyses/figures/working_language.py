"""Working language over steps: the pivot's part in what intermediate layers decode to, beside its nulls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import NULL, PIVOT, from_zero, safe
from babelscope.analyses.pivot_share import PivotShare
from babelscope.core.errors import InputError

MAIN = (("cells", "all"), ("cells", "emitted"), ("soft", "all"), ("count", "all"))
FURTHER = (("mass", "all"), ("other", "all"), ("rank", "all"), ("entropy", "all"))
FORMS = {"rank": ",.1f", "entropy": ".2f"}  # percentages elsewhere
HEIGHT, COLUMNS = 210, 2
RANDOM_SETS, ELSEWHERE, RANDOM_MODEL = "null: random sets", "null: elsewhere", "null: random model"
NULLS = ["random_sets_high", "elsewhere", "random_model"]


def statistic_title(statistic: str, prompts: str, *, pivot: str, target: str) -> str:
    """What a statistic is, safe to show."""
    pivot, target = safe(pivot), safe(target)
    return {
        ("cells", "all"): f"Top token is {pivot}'s, of all cells",
        ("cells", "emitted"): f"The same, where the model then writes {target}",
        ("count", "all"): f"{pivot}'s, of cells decoding to {pivot} or {target} (Eq. 1)",
        ("soft", "all"): f"Soft share of {pivot}",
        ("mass", "all"): f"Probability of {pivot}'s identifiers",
        ("other", "all"): "Top token is neither's, of all cells",
        ("rank", "all"): f"Rank of {target}'s identifier (geometric mean)",
        ("entropy", "all"): "Entropy (nats)",
    }[statistic, prompts]


class Panel(NamedTuple):
    """One statistic of one series; the title is safe."""

    title: str
    statistic: str
    table: pd.DataFrame


def working_language_figure(
    working: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """Counts and shares with intervals and nulls; a marker is filled where it is outside every null.

    Parameters
    ----------
    working
        `PivotShare.table_`.
    history
        For the learning rate.
    """
    return _draw(_statistics(working, MAIN, pivot=pivot, target=target), pivot=pivot, history=history)


def decoding_figure(
    working: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """What else the same cells hold: probabilities, other tokens, rank and entropy; arguments as above."""
    return _draw(_statistics(working, FURTHER, pivot=pivot, target=target), pivot=pivot, history=history)


def working_languages_figure(
    shares: Sequence[PivotShare], *, statistic: str = "soft", prompts: str = "all"
) -> go.Figure:
    """Small multiples: one statistic of several series that share a pivot, a panel for each target.

    Parameters
    ----------
    shares
        Of different targets; panels come in their order, over the same steps.
    statistic, prompts
        As in `PivotShare.table_`.

    Raises
    ------
    InputError
        If there is none, their pivots differ, or one has no such statistic.
    """
    pivots = list(dict.fromkeys(share.pivot for share in shares))
    if len(pivots) != 1:
        raise InputError(f"small multiples compare series of one pivot; given: {pivots or 'none'}")
    missing = [share.target for share in shares if share.rows(statistic, prompts=prompts).empty]
    if missing:
        known = sorted(set(zip(shares[0].table_["statistic"], shares[0].table_["prompts"], strict=True)))
        raise InputError(f"no {statistic!r} over {prompts!r} prompts of {missing}; there is {known}")
    panels = [
        Panel(safe(share.target), statistic, share.rows(statistic, prompts=prompts)) for share in shares
    ]
    columns = min(3, len(panels))
    figure = _draw(panels, pivot=pivots[0], history=None, columns=columns)
    what = statistic_title(statistic, prompts, pivot=pivots[0], target="the target")
    figure.update_yaxes(title_text=what, col=1)
    last = -(-len(panels) // columns)
    for col in range(len(panels) - columns * (last - 1) + 1, columns + 1):
        figure.update_yaxes(visible=False, row=last, col=col)
    return figure


def _statistics(
    working: pd.DataFrame, wanted: Sequence[tuple[str, str]], *, pivot: str, target: str
) -> list[Panel]:
    """Those of the wanted that were measured."""
    panels = []
    for statistic, prompts in wanted:
        table = select(working, statistic=statistic, prompts=prompts)
        if len(table):
            title = statistic_title(statistic, prompts, pivot=pivot, target=target)
            panels.append(Panel(title, statistic, table))
    return panels


def _draw(
    panels: Sequence[Panel], *, pivot: str, history: pd.DataFrame | None, columns: int = COLUMNS
) -> go.Figure:
    grid = [[panel.title for panel in panels[i : i + columns]] for i in range(0, len(panels), columns)]
    steps = np.unique(np.concatenate([panel.table["step"] for panel in panels]))
    figure, axis = step_panels(steps, grid, heights=[HEIGHT] * len(grid), history=history)
    for number, (_, statistic, table) in enumerate(panels):
        row, col = number // columns + 1, number % columns + 1
        form = FORMS.get(statistic, ".1%")
        estimate = curve(
            axis,
            table,
            y="estimate",
            name=f"{safe(pivot)} (filled: outside all nulls)",
            colour=PIVOT,
            form=form,
            filled=table["outside_null"].tolist(),
            note=["outside all nulls" if out else "not outside its nulls" for out in table["outside_null"]],
            legendgroup="estimate",
            showlegend=number == 0,
        )
        for trace in (*draw_nulls(axis, table, form=form, showlegend=number == 0), estimate):
            figure.add_trace(trace, row=row, col=col)
        highest = float(table[["high", *NULLS]].max(axis=None))
        if statistic == "rank":
            decades = max(1, int(np.ceil(np.log10(highest))))
            figure.update_yaxes(type="log", dtick=1, range=[-0.05, decades], row=row, col=col)
        elif statistic == "entropy":
            figure.update_yaxes(rangemode="tozero", row=row, col=col)
        else:
            top = 1.0 if statistic in ("soft", "count") else max(highest, 0.02)
            figure.update_yaxes(range=from_zero(top), tickformat=".0%", row=row, col=col)
    return figure


def draw_nulls(
    axis: StepAxis, table: pd.DataFrame, *, showlegend: bool, form: str = ".1%"
) -> list[go.Scatter]:
    """The three nulls of one statistic, in greys."""
    sets = band(
        axis,
        table,
        low="random_sets_low",
        high="random_sets_high",
        name=RANDOM_SETS,
        colour=NULL,
        opacity=0.35,
        legendgroup=RANDOM_SETS,
        showlegend=showlegend,
    )
    lines = [
        go.Scatter(
            x=axis.at(table["step"].to_numpy()),
            y=table[column],
            mode="lines",
            line={"color": NULL, "width": 1.6, "dash": dash},
            hovertemplate=f"{name}: " + "%{y:" + form + "}<extra></extra>",
            name=name,
            legendgroup=name,
            showlegend=showlegend,
        )
        for column, name, dash in (("elsewhere", ELSEWHERE, "dot"), ("random_model", RANDOM_MODEL, "dash"))
    ]
    return [sets, *lines]
