"""Working language over steps: the pivot's part in what intermediate layers decode to, beside its nulls."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import NULL, PIVOT, from_zero, safe

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
    return _panels(working, MAIN, pivot=pivot, target=target, history=history)


def decoding_figure(
    working: pd.DataFrame, *, pivot: str, target: str, history: pd.DataFrame | None = None
) -> go.Figure:
    """What else the same cells hold: probabilities, other tokens, rank and entropy; arguments as above."""
    return _panels(working, FURTHER, pivot=pivot, target=target, history=history)


def _panels(
    working: pd.DataFrame,
    wanted: Sequence[tuple[str, str]],
    *,
    pivot: str,
    target: str,
    history: pd.DataFrame | None,
) -> go.Figure:
    measured = set(zip(working["statistic"], working["prompts"], strict=True))
    shown = [one for one in wanted if one in measured]
    titles = [statistic_title(*one, pivot=pivot, target=target) for one in shown]
    grid = [titles[start : start + COLUMNS] for start in range(0, len(titles), COLUMNS)]
    heights = [HEIGHT] * len(grid)
    figure, axis = step_panels(working["step"].to_numpy(), grid, heights=heights, history=history)
    for number, (statistic, prompts) in enumerate(shown):
        row, col = number // COLUMNS + 1, number % COLUMNS + 1
        table = select(working, statistic=statistic, prompts=prompts)
        for trace in draw_nulls(axis, table, form=FORMS.get(statistic, ".1%"), showlegend=number == 0):
            figure.add_trace(trace, row=row, col=col)
        estimate = curve(
            axis,
            table,
            y="estimate",
            name=f"{safe(pivot)} (filled: outside all nulls)",
            colour=PIVOT,
            form=FORMS.get(statistic, ".1%"),
            filled=table["outside_null"].tolist(),
            note=["outside all nulls" if out else "not outside its nulls" for out in table["outside_null"]],
            legendgroup="estimate",
            showlegend=number == 0,
        )
        figure.add_trace(estimate, row=row, col=col)
        if statistic == "rank":
            figure.update_yaxes(type="log", dtick=1, row=row, col=col)
        elif statistic == "entropy":
            figure.update_yaxes(rangemode="tozero", row=row, col=col)
        else:
            highest = 1.0 if statistic in ("soft", "count") else table[["high", *NULLS]].max(axis=None)
            figure.update_yaxes(
                range=from_zero(max(float(highest), 0.02)), tickformat=".0%", row=row, col=col
            )
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
