"""How every figure looks: one colour per role wherever it appears, quiet axes, names safe to show.

Colours are those of Okabe & Ito (Color Universal Design, 2008; Wong, Nature Methods 8, 441, 2011), which
people with any common colour vision tell apart. Blue is the pivot everywhere, vermilion the target.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from babelscope.core.languages import shown

INK, MUTED, GRID, NULL = "#1f2328", "#656d76", "#e7e9ec", "#8c939c"
PIVOT, TARGET = "#0072b2", "#d55e00"
OTHERS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
MARGIN = {"l": 64, "r": 24, "t": 68, "b": 46}  # px; the top holds the legend and the panels' titles

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": MARGIN,
        "hoverlabel": {
            "font": {"family": FONT, "size": 12, "color": INK},
            "bgcolor": "white",
            "bordercolor": GRID,
        },
        "hovermode": "closest",
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "font": {"size": 12},
            "itemsizing": "constant",
        },
        "xaxis": {
            "showgrid": False,
            "zeroline": False,
            "showline": True,
            "linecolor": MUTED,
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": MUTED,
            "tickfont": {"size": 12},
            "title": {"font": {"size": 12, "color": MUTED}, "standoff": 6},
        },
        "yaxis": {
            "gridcolor": GRID,
            "zeroline": False,
            "tickfont": {"size": 12},
            "title": {"font": {"size": 12, "color": MUTED}, "standoff": 8},
        },
    }
)


def safe(name: str) -> str:
    """A language's or the user's own name, with nothing in it that plotly reads as markup."""
    return html.escape(shown(name), quote=False)


def language_colours(languages: Sequence[str], *, pivot: str, target: str) -> dict[str, str]:
    """Blue for the pivot, vermilion for the target, one of the others' colours for each further language."""
    further = [name for name in languages if name not in (pivot, target)]
    others = {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(further)}
    return {**others, pivot: PIVOT, target: TARGET}


def faded(colour: str, opacity: float) -> str:
    """A #rrggbb colour as rgba."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def from_zero(top: float, *, room: float = 0.06) -> list[float]:
    """Range of an axis from 0, with space for a marker on it, to `top` and some `room` above."""
    return [-0.04 * top, (1 + room) * top]


def panel(row: int, col: int, *, cols: int) -> tuple[str, str]:
    """Names of the x and y axes of one panel of a full grid, as annotations and shapes refer to them."""
    number = (row - 1) * cols + col
    return (f"x{number}", f"y{number}") if number > 1 else ("x", "y")


def title_panel(
    figure: go.Figure, text: str, *, row: int = 1, col: int = 1, cols: int = 1, quiet: bool = False
) -> None:
    """Write `text` (already safe) above the left end of a panel; small and grey where it is quiet."""
    x, y = panel(row, col, cols=cols)
    figure.add_annotation(
        text=text if quiet else f"<b>{text}</b>",
        xref=f"{x} domain",
        yref=f"{y} domain",
        x=0,
        y=1,
        xanchor="left",
        yanchor="bottom",
        yshift=4,
        showarrow=False,
        font={"size": 11, "color": MUTED} if quiet else {"size": 13},
    )


def zero_line(figure: go.Figure, *, row: int, cols: int) -> None:
    """A quiet line at zero through the panels of a row, below what is drawn."""
    for col in range(1, cols + 1):
        x, y = panel(row, col, cols=cols)
        figure.add_shape(
            type="line",
            xref=f"{x} domain",
            yref=y,
            x0=0,
            x1=1,
            y0=0,
            y1=0,
            line={"color": MUTED, "width": 1},
            layer="below",
        )
