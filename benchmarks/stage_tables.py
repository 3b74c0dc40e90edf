"""The study's tables, put between the markers of a Markdown page: <!-- name --> … <!-- /name -->."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.stage_grid import CENTRE, GRID, POINTS, PROBLEMS, Tally, pooled
from benchmarks.stage_peers import DYNP_LINES, DYNP_STEPS, METHODS, PEER_CELLS
from benchmarks.stage_truths import DESIGNS, NOISES

INTERVALS = ("breaks", "best", "rise", "fall", "curve")
FOUND = ("any break", "right number", "right shape", "rises and falls")
AIM = (0.85, 0.95)
Known = Mapping[str, Any]


def write_tables(page: str, known: Known) -> str:
    """The page with its tables made anew; those of which nothing is stored stay as they are."""
    for name, make in TABLES.items():
        part = "peers" if name == "peers" else "grid"
        if not any(key.startswith(part) for key in known):
            continue
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, opened, rest = page.partition(opening)
        _, closed, after = rest.partition(closing)
        if not (opened and closed):
            raise SystemExit(f"the page has no place for the table {name!r}; put {opening}{closing}")
        page = f"{before}{opening}\n{make(known)}\n{closing}{after}"
    return page


def truths(_: Known) -> str:
    rows = [
        [
            name,
            ", ".join(f"{100 * level:.0f}" for level in design.levels),
            ", ".join(f"{low:.2f} to {high:.2f}" for low, high in design.places),
        ]
        for name, design in DESIGNS.items()
    ]
    return markdown(["truth", "percent solved", "breaks, as parts of the run"], rows)


def covered_by_truth(known: Known) -> str:
    rows = [
        [design, noise, *_means(known, INTERVALS, design=design, noise=noise)]
        for design in DESIGNS
        for noise in NOISES
    ]
    return markdown(["truth", "noise", *INTERVALS], rows)


def covered_by_size(known: Known) -> str:
    rows = [
        [f"{points} × {problems:,}", *_means(known, INTERVALS, points=points, problems=problems)]
        for points in POINTS
        for problems in PROBLEMS
    ]
    return markdown(["checkpoints × problems", *INTERVALS], rows)


def false_stages(known: Known) -> str:
    return _by_size(known, "any break", [{"design": "flat", "noise": noise} for noise in NOISES])


def rises_and_falls(known: Known) -> str:
    designs = ("rise-fall-plateau", "flat-rise-fall-plateau")
    truths = [{"design": design, "noise": noise} for design in designs for noise in NOISES]
    return _by_size(known, "rises and falls", truths)


def found_at_the_centre(known: Known) -> str:
    points, problems = CENTRE
    rows = [
        [design, noise, *_means(known, FOUND, design=design, points=points, problems=problems, noise=noise)]
        for design in DESIGNS
        for noise in NOISES
    ]
    return markdown(["truth", "noise", *FOUND], rows)


def outside(known: Known) -> str:
    """Cells beyond 85–95 % by two standard errors, per interval and truth; and the least of them."""
    rows = []
    for name in INTERVALS:
        for design in DESIGNS:
            cells = [(cell, *pooled([_tally(known, cell)], name)) for cell in GRID if cell.design == design]
            cells = [(cell, mean, runs) for cell, mean, _, runs in cells if runs]
            below = [cell for cell, mean, runs in cells if mean < AIM[0] - _twice_error(AIM[0], runs)]
            above = [cell for cell, mean, runs in cells if mean > AIM[1] + _twice_error(AIM[1], runs)]
            if below or above:
                least, mean, runs = min(cells, key=lambda one: one[1])
                where = f"{least.points} × {least.problems:,}, {least.noise}: {_share(mean)} of {runs}"
                rows.append([name, design, f"{len(below)}", f"{len(above)}", f"{len(cells)}", where])
    return markdown(["interval", "truth", "below", "above", "cells", "least"], rows)


def peers(known: Known) -> str:
    columns = ("right number", "error of breaks", "any break, flat", "error of best")
    rows = []
    for cell in PEER_CELLS:
        for method in METHODS:
            means = [pooled([_tally(known, cell)], f"{method}: {name}") for name in columns]
            if method in (DYNP_STEPS, DYNP_LINES):
                means[0] = np.nan, np.nan, 0  # it was told
            size = f"{cell.points} × {cell.problems:,}"
            rows.append([size, method, *(_with_error(*one) for one in means)])
    return markdown(["checkpoints × problems", "method", *columns], rows)


TABLES: dict[str, Callable[[Known], str]] = {
    "truths": truths,
    "covered by truth": covered_by_truth,
    "covered by size": covered_by_size,
    "false stages": false_stages,
    "rises and falls": rises_and_falls,
    "found at the centre": found_at_the_centre,
    "outside": outside,
    "peers": peers,
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _by_size(known: Known, name: str, truths: Sequence[dict[str, str]]) -> str:
    columns: list[dict[str, int]] = [*({"problems": problems} for problems in PROBLEMS), {}]
    rows = [
        [*truth.values(), f"{points}"]
        + [_means(known, [name], **truth, points=points, **column)[0] for column in columns]
        for truth in truths
        for points in POINTS
    ]
    return markdown(
        ["truth", "noise", "checkpoints", *(f"{number:,} problems" for number in PROBLEMS), "all"], rows
    )


def _means(known: Known, names: Sequence[str], **wanted: str | int) -> list[str]:
    """Means over all cells with those attributes."""
    cells = [cell for cell in GRID if wanted.items() <= vars(cell).items()]
    tallies = [_tally(known, cell) for cell in cells]
    return [_with_error(*pooled(tallies, name)) for name in names]


def _tally(known: Known, cell: Any) -> Tally:
    return known[cell.key]["tally"] if cell.key in known else {}


def _twice_error(rate: float, runs: int) -> float:
    return 2 * np.sqrt(rate * (1 - rate) / runs)


def _with_error(mean: float, twice_error: float, runs: int) -> str:
    return f"{_share(mean)} ± {_share(twice_error)}" if runs else "–"


def _share(number: float) -> str:
    return f"{number:.3f}" if number < 0.1 else f"{number:.2f}"
