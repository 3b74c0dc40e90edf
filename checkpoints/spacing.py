"""Missing steps: gaps in a spacing that is regular around them, arithmetic or geometric.

A gap is reported where most links on either side of it have one length d, a difference of steps or of their
logarithms, and the link itself is 2d, 3d, … Three links of length d must be seen, two on a side that has two.
A series may change its spacing (1, 2, 4, … 512, 1000, 2000, …) or have none: then nothing is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

SIDE = 3  # links looked at on either side
EQUAL = 0.05  # of d: steps of a geometric spacing are rounded
ROUNDING = 0.25  # of d: where half a step is more, a link of 2d may be one of d


def gaps(steps: Sequence[int]) -> list[tuple[int, str]]:
    """The first missing step of each gap, and the gap in words; `steps` are sorted and different."""
    found: dict[int, tuple[int, str]] = {}
    positive = np.array([step for step in steps if step > 0], dtype=float)
    for before, after, parts in _gaps(np.log(positive), 0.5 / positive):
        missing = np.geomspace(positive[before], positive[after], parts + 1)[1:-1]
        found[int(positive[before])] = _in_words(positive[before], positive[after], missing, "about ")
    used = np.array(steps, dtype=float)
    for before, after, parts in _gaps(used, np.full(len(used), 0.25)):
        missing = np.linspace(used[before], used[after], parts + 1)[1:-1]
        found[int(used[before])] = _in_words(used[before], used[after], missing, "")
    return [found[before] for before in sorted(found)]


def _gaps(
    places: Float[np.ndarray, " step"], error: Float[np.ndarray, " step"]
) -> list[tuple[int, int, int]]:
    """Neighbours whose link should be several, and how many."""
    links, error = np.diff(places), error[1:] + error[:-1]
    found = []
    for k in range(len(links)):
        sides = links[max(k - SIDE, 0) : k], links[k + 1 : k + 1 + SIDE]
        if not all(map(len, sides)):
            continue
        unit = np.concatenate(sides).min()
        single = [int((abs(side / unit - 1) <= EQUAL).sum()) for side in sides]
        lengths = np.append(np.concatenate(sides), links[k]) / unit
        multiples = abs(lengths / np.round(lengths).clip(1) - 1) <= EQUAL
        enough = all(n >= min(2, len(side)) for n, side in zip(single, sides, strict=True))
        parts = round(lengths[-1])
        if parts > 1 and enough and sum(single) >= 3 and multiples.all() and error[k] <= ROUNDING * unit:
            found.append((k, k + 1, parts))
    return found


def _in_words(
    before: float, after: float, missing: Float[np.ndarray, " step"], about: str
) -> tuple[int, str]:
    steps = [round(step) for step in missing]
    shown = ", ".join(map(str, steps[:5])) + (f" … {steps[-1]}" if len(steps) > 5 else "")
    return steps[0], f"no step {about}{shown} between {before:.0f} and {after:.0f} of a regular spacing"
