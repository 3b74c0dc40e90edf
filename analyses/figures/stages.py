"""Stages of every signal: what was scored, the fitted curve, where its trend breaks, and the best checkpoint.

Shading follows the verdict: a signal that is not resolvable has a fitted curve with its band, and no stages.
Below the signals, the working language over the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from babelscope.analyses.figures.names import signal_name
from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, select, step_panels
from babelscope.analyses.figures.style import INK, MUTED, PIVOT, TARGET, faded, from_zero, panel, safe
from babelscope.analyses.figures.working_language import draw_nulls
from babelscope.analyses.stages import StageDetector
from babelscope.core.stats import wilson_interval

TINTS = {"rising": "#e4f1ea", "falling": "#fbeedd", "flat": "#eef0f3"}
TREND = {"translation": "rising", "transition": "falling", "stabilization": "flat"}
COLOURS = {"score": INK, "pivot knowledge": PIVOT, "identifier choice": TARGET}
BEST, BREAKS, FITTED, FITTED_BAND = "best checkpoint", "break", "fitted", "fitted, interval"


def stages_figure(
    stages: Mapping[str, StageDetector],
    *,
    pivot: str,
    target: str,
    working: pd.DataFrame | None = None,
    history: pd.DataFrame | None = None,
) -> go.Figure:
    """One panel per signal, and one of the working language.

    Parameters
    ----------
    stages
        A fitted detector by signal.
    working
        `PivotShare.table_`, or None.
    history
        For the learning rate.
    """
    names = [safe(signal_name(signal, pivot=pivot, target=target)) for signal in stages]
    titles = [name[:1].upper() + name[1:] for name in names]
    shaded = next((found for found in stages.values() if found.stages_), None)
    if working is not None:
        titles.append(f"Intermediate layers decode to {safe(pivot)}'s identifier")
    steps = [found.curve_.steps for found in stages.values()]
    steps += [working["step"].to_numpy()] if working is not None else []
    figure, axis = step_panels(
        np.concatenate(steps), [[title] for title in titles], heights=[210] * len(titles), history=history
    )
    for row, (signal, found) in enumerate(stages.items(), start=1):
        _draw_signal(figure, axis, signal, found, row=row)
    if working is not None:
        _draw_working(figure, axis, working, pivot=pivot, row=len(titles))
        if shaded is not None:
            draw_stages(figure, axis, shaded, row=len(titles), named=False)
    figure.update_layout(showlegend=True)
    return figure


def curve_figure(found: StageDetector, *, name: str) -> go.Figure:
    """The curve of a plain table."""
    unit = found.curve_.unit
    figure, axis = step_panels(found.curve_.steps, [[safe(name)]], heights=[420], history=None)
    _draw_signal(figure, axis, "score", found, row=1)
    if unit != "step":
        figure.update_xaxes(title_text=unit)
    return figure.update_layout(showlegend=True)


def draw_stages(
    figure: go.Figure, axis: StepAxis, found: StageDetector, *, row: int, named: bool = True
) -> None:
    """Shade each stage, and name it or say that there are none to name."""
    for stage in found.stages_:
        figure.add_vrect(
            x0=float(axis.at(stage.start_step)),
            x1=float(axis.at(stage.end_step)),
            fillcolor=TINTS[TREND.get(stage.name, stage.name)],
            line_width=0,
            layer="below",
            name=stage.name,
            row=row,  # pyright: ignore[reportArgumentType]
            col=1,  # pyright: ignore[reportArgumentType]
        )
    for one in found.breaks_ if found.stages_ else ():
        figure.add_vline(
            x=float(axis.at(one.step)),
            line={"color": MUTED, "width": 1, "dash": "dash"},
            layer="below",
            row=row,  # pyright: ignore[reportArgumentType]
            col=1,  # pyright: ignore[reportArgumentType]
        )
    if not named:
        return
    x, y = panel(row, 1, cols=1)
    names = [(stage.name, axis.at([stage.start_step, stage.end_step]).mean()) for stage in found.stages_]
    for name, where in names or [(f"no stages: {found.shape_}", (axis.first + axis.last) / 2)]:
        figure.add_annotation(
            text=safe(name),
            xref=x,
            yref=f"{y} domain",
            x=float(where),
            y=1,
            yanchor="top",
            showarrow=False,
            font={"size": 12, "color": MUTED},
            bgcolor=TINTS.get(TREND.get(name, name), "white"),  # a break inside the stage would cross it
            borderpad=1,
        )


def _draw_signal(figure: go.Figure, axis: StepAxis, signal: str, found: StageDetector, *, row: int) -> None:
    scored, colour, first = found.curve_, COLOURS.get(signal, INK), row == 1
    rate = scored.solved / scored.total
    low, high = wilson_interval(rate * scored.worth, scored.worth, level=found.level).T
    table = pd.DataFrame(
        {
            "step": scored.steps,
            "rate": rate,
            "low": low,
            "high": high,
            "fitted": found.fitted_,
            "fitted_low": found.band_[:, 0],
            "fitted_high": found.band_[:, 1],
        }
    )
    figure.add_trace(
        band(
            axis,
            table,
            low="fitted_low",
            high="fitted_high",
            name=FITTED_BAND,
            colour=colour,
            legendgroup=FITTED,
            showlegend=False,
        ),
        row=row,
        col=1,
    )
    fitted = table.dropna(subset="fitted")
    figure.add_trace(
        go.Scatter(
            x=axis.at(fitted["step"].to_numpy()),
            y=fitted["fitted"],
            mode="lines",
            line={"color": colour, "width": 2.2},
            hoverinfo="skip",
            name=FITTED,
            legendgroup=FITTED,
            showlegend=first,
        ),
        row=row,
        col=1,
    )
    counted = [f"{solved:,} of {total:,}" for solved, total in zip(scored.solved, scored.total, strict=True)]
    points = curve(
        axis,
        table,
        y="rate",
        name="scored",
        colour=colour,
        note=counted,
        legendgroup="points",
        showlegend=first,
    )
    figure.add_trace(points.update(mode="markers", marker_size=6), row=row, col=1)
    _draw_best(figure, axis, found, row=row)
    _draw_breaks(figure, axis, found, row=row)
    draw_stages(figure, axis, found, row=row)
    top = max(float(np.nanmax(high)), 0.05)
    figure.update_yaxes(range=from_zero(top, room=0.22), tickformat=".0%", row=row, col=1)


def _draw_best(figure: go.Figure, axis: StepAxis, found: StageDetector, *, row: int) -> None:
    if found.best_step_ is None or found.best_interval_ is None:
        return
    at = int(np.flatnonzero(found.curve_.steps == found.best_step_)[0])
    x, ends = axis.at(found.best_step_), axis.at(np.array(found.best_interval_))
    low, high = found.best_interval_
    figure.add_trace(
        go.Scatter(
            x=[float(x)],
            y=[found.fitted_[at]],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [ends[1] - x],
                "arrayminus": [x - ends[0]],
                "color": INK,
                "thickness": 1.4,
                "width": 4,
            },
            mode="markers",
            marker={
                "symbol": "star",
                "size": 14,
                "color": "#f0b429" if found.rises_and_falls_ else "white",
                "line": {"color": INK, "width": 1},
            },
            hovertemplate=f"best: {found.curve_.unit} {found.best_step_:,}"
            f" ({low:,} to {high:,})<extra></extra>",
            name=BEST,
            legendgroup=BEST,
            showlegend=row == 1,
        ),
        row=row,
        col=1,
    )


def _draw_breaks(figure: go.Figure, axis: StepAxis, found: StageDetector, *, row: int) -> None:
    """Intervals of the breaks, on the bottom of the panel."""
    if not found.breaks_:
        return
    x, ends = (
        axis.at(np.array(values))
        for values in ([one.step for one in found.breaks_], [(one.low, one.high) for one in found.breaks_])
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=np.zeros(len(x)),
            error_x={
                "type": "data",
                "symmetric": False,
                "array": ends[:, 1] - x,
                "arrayminus": x - ends[:, 0],
                "color": faded(MUTED, 0.7),
                "thickness": 5,
                "width": 0,
            },
            mode="markers",
            marker={"symbol": "line-ns", "size": 11, "line": {"width": 2, "color": INK}, "color": INK},
            hovertemplate=[
                f"break at {found.curve_.unit} {one.step:,} ({one.low:,} to {one.high:,})<extra></extra>"
                for one in found.breaks_
            ],
            name=f"{BREAKS}, interval",
            legendgroup=BREAKS,
            showlegend=row == 1,
        ),
        row=row,
        col=1,
    )


def _draw_working(figure: go.Figure, axis: StepAxis, working: pd.DataFrame, *, pivot: str, row: int) -> None:
    cells = select(working, statistic="cells", prompts="all")
    estimate = curve(
        axis,
        cells,
        y="estimate",
        name=safe(pivot),
        colour=PIVOT,
        filled=cells["outside_null"].tolist(),
    )
    for trace in (*draw_nulls(axis, cells, showlegend=True), estimate):
        figure.add_trace(trace.update(legend="legend2"), row=row, col=1)
    top = max(float(cells[["high", "random_sets_high", "elsewhere", "random_model"]].max(axis=None)), 0.05)
    figure.update_yaxes(range=from_zero(top), tickformat=".0%", row=row, col=1)
    above = next(figure.select_yaxes(row=row, col=1)).domain[1]
    figure.update_layout(
        legend2={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": above,
            "yanchor": "bottom",
            "font": {"size": 11},
        }
    )
