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
ROUNDING = 0.5  # of a step; geometric steps are rounded ones
CLEAR = 0.1  # of d: where rounding is more than this, a ratio says nothing


def gaps(steps: Sequence[int]) -> list[tuple[int, str]]:
    """The first missing step of each gap, and the gap in words; `steps` are sorted and different."""
    found = {}
    for kind, first in (("geometric", int(bool(steps) and steps[0] == 0)), ("arithmetic", 0)):
        used = np.array(steps[first:], dtype=float)
        scale = np.log(used) if kind == "geometric" else used
        error = ROUNDING / used if kind == "geometric" else np.zeros(len(used))
        for k, parts in _gaps(np.diff(scale), error[1:] + error[:-1]):
            inside = np.linspace(scale[k], scale[k + 1], parts + 1)[1:-1]
            missing = [round(s) for s in (np.exp(inside) if kind == "geometric" else inside)]
            about = "about " if kind == "geometric" else ""
            shown = ", ".join(map(str, missing[:5])) + (f" … ({len(missing)} steps)" if parts > 6 else "")
            detail = f"{about}{shown} missing between {used[k]:.0f} and {used[k + 1]:.0f}"
            found[used[k]] = (missing[0], f"{detail}: the steps around are regular")
    return [found[before] for before in sorted(found)]


def _gaps(links: Float[np.ndarray, " link"], error: Float[np.ndarray, " link"]) -> list[tuple[int, int]]:
    """Links that should be several, and how many."""
    found = []
    for k in range(len(links)):
        sides = [np.arange(max(k - SIDE, 0), k), np.arange(k + 1, min(k + 1 + SIDE, len(links)))]
        if not all(map(len, sides)):
            continue
        around = np.concatenate(sides)
        usual = links[around].min()
        rounding = max(error[k], error[around].max())
        if rounding > CLEAR * usual:
            continue
        single = [sum(abs(links[side] - usual) <= 2 * rounding) for side in sides]
        looked_at = np.append(links[around], links[k]) / usual
        parts = np.round(looked_at)
        multiples = abs(looked_at - parts) * usual <= (1 + parts) * rounding
        enough = all(n >= min(2, len(side)) for n, side in zip(single, sides, strict=True))
        if enough and sum(single) >= 3 and multiples.all() and parts[-1] > 1:
            found.append((k, int(parts[-1])))
    return found
