"""Arms trained on different mixes: every run's score, and the differences with their intervals."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from babelscope.analyses.comparison import ArmComparison
from babelscope.analyses.figures.names import group_name
from babelscope.analyses.figures.style import INK, MARGIN, MUTED, OTHERS, TEMPLATE, safe, title_panel

RUNS, MEANS = "one training run", "mean of the arm"


def comparison_figure(comparison: ArmComparison, *, pivot: str, target: str) -> go.Figure:
    """Scores of all runs on the left; recommended − other on the right, by the metric and by group.

    Parameters
    ----------
    comparison
        Fitted.
    """
    arms = list(dict.fromkeys(comparison.scores_["arm"]))
    others = [arm for arm in arms if arm != comparison.recommended]
    colours = {comparison.recommended: INK} | {arm: OTHERS[i % len(OTHERS)] for i, arm in enumerate(others)}
    groups = ["", *dict.fromkeys(comparison.groups_["group"])]
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.3, column_widths=[0.42, 0.58])
    _draw_scores(figure, comparison, arms, colours)
    for number, other in enumerate(others):
        _draw_differences(
            figure, comparison, other, groups, colours[other], place=number - (len(others) - 1) / 2
        )
    figure.add_vline(
        x=0,
        line={"color": MUTED, "width": 1},
        row=1,  # pyright: ignore[reportArgumentType]
        col=2,  # pyright: ignore[reportArgumentType]
    )
    labels = [
        "<b>the metric</b>",
        *(safe(group_name(group, pivot=pivot, target=target)) for group in groups[1:]),
    ]
    figure.update_yaxes(
        tickvals=list(range(len(groups))),
        ticktext=labels,
        range=[len(groups) - 0.5, -0.5],
        row=1,
        col=2,
    )
    figure.update_yaxes(
        tickvals=list(range(len(arms))),
        ticktext=[safe(arm) for arm in arms],
        range=[len(arms) - 0.5, -0.5],
        row=1,
        col=1,
    )
    figure.update_xaxes(tickformat=".0%", title_text="mean score", row=1, col=1)
    figure.update_xaxes(tickformat="+.0%", title_text="difference of mean scores", row=1, col=2)
    title_panel(figure, "Score of every run", col=1, cols=2)
    title_panel(figure, f"{safe(comparison.recommended)} − other", col=2, cols=2)
    rows = max(len(arms) * 44, len(groups) * (18 + 18 * len(others)))
    figure.update_layout(template=TEMPLATE, height=rows + 150, margin={**MARGIN, "l": 110})
    return figure


def _draw_scores(
    figure: go.Figure, comparison: ArmComparison, arms: list[str], colours: dict[str, str]
) -> None:
    for row, arm in enumerate(arms):
        runs = comparison.scores_[comparison.scores_["arm"] == arm]
        figure.add_trace(
            go.Scatter(
                x=runs["score"],
                y=[row] * len(runs),
                mode="markers",
                marker={"size": 9, "color": "white", "line": {"color": colours[arm], "width": 2}},
                hovertemplate=[
                    f"{safe(arm)}, seed {seed}: " + "%{x:.1%}<extra></extra>" for seed in runs["seed"]
                ],
                name=RUNS,
                legendgroup=RUNS,
                showlegend=False,
            ),
            row=1,
            col=1,
        )
        figure.add_trace(
            go.Scatter(
                x=[runs["score"].mean()],
                y=[row],
                mode="markers",
                marker={"symbol": "line-ns", "size": 22, "line": {"color": colours[arm], "width": 3}},
                hovertemplate=f"{safe(arm)}, mean: " + "%{x:.1%}<extra></extra>",
                name=MEANS,
                showlegend=False,
            ),
            row=1,
            col=1,
        )


def _draw_differences(
    figure: go.Figure, comparison: ArmComparison, other: str, groups: list[str], colour: str, *, place: float
) -> None:
    overall = comparison.differences_.assign(group="").to_dict("records")
    rows = [row for row in (*overall, *comparison.groups_.to_dict("records")) if row["other"] == other]
    figure.add_trace(
        go.Scatter(
            x=[row["difference"] for row in rows],
            y=[groups.index(row["group"]) + 0.2 * place for row in rows],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["difference"] for row in rows],
                "arrayminus": [row["difference"] - row["low"] for row in rows],
                "color": colour,
                "thickness": 2.2,
                "width": 0,
            },
            mode="markers",
            marker={
                "size": [13 if not row["group"] else 9 for row in rows],
                "color": [colour if row["low"] > 0 or row["high"] < 0 else "white" for row in rows],
                "line": {"color": colour, "width": 2},
                "opacity": 1,
            },
            hovertemplate=[
                f"against {safe(other)}: {row['difference']:+.1%} ({row['low']:+.1%} to {row['high']:+.1%})"
                "<extra></extra>"
                for row in rows
            ],
            name=f"against {safe(other)}",
        ),
        row=1,
        col=2,
    )
