"""Broken lines whose breaks may lie between checkpoints, where most bends do.

Breaks that have to be at checkpoints are wrong by up to half a gap, and their intervals do not say so. With
little noise all simulated series break at the same checkpoint, and a bend between two of them is fitted with
a break too many. So places without weight are put between checkpoints, as many as `broken_lines.py` searches.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from babelscope.analyses.broken_lines import GRID, BrokenLines


class LinesBetween:
    """Candidates for the curve of one series, with breaks at checkpoints and between them.

    Parameters
    ----------
    x
        Positions of the checkpoints, ascending.
    weights
        How much each counts.
    max_breaks
        Most breaks to consider; fewer where a fit would leave no residual degree of freedom.

    Attributes
    ----------
    x : (places,)
        Positions of checkpoints and of what lies between.
    checkpoints : (n,)
        Which of those are checkpoints.
    grid
        Places at which a break may be.
    most : int
        Most breaks that are considered.
    """

    def __init__(self, x: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], *, max_breaks: int):
        n = len(x)
        parts = 1 + max(0, GRID - (n - 2)) // (n - 3)
        # In the first and the last gap a break could be anywhere: only the checkpoint inside of it tells.
        inner = np.arange((n - 3) * parts + 1) / parts + 1
        places = np.concatenate([[0], inner, [n - 1]])
        self.x = np.interp(places, np.arange(n), x)
        self.checkpoints = np.flatnonzero(places == places.round())
        self.most = min(max_breaks, (n - 3) // 2)
        self._lines = BrokenLines(self.x, max_breaks=self.most)
        self.grid = self._lines.grid
        self._weights = self._spread(weights)

    def _spread(self, values: Float[np.ndarray, "n *draws"]) -> Float[np.ndarray, "places *draws"]:
        full = np.zeros((len(self.x), *values.shape[1:]))
        full[self.checkpoints] = values
        return full

    def places(self, responses: Float[np.ndarray, "n draws"], breaks: int) -> Int[np.ndarray, "draws k"]:
        """Where on the grid the breaks fit best."""
        return self._lines.search(self._spread(responses), self._weights, [breaks])[breaks][1]

    def curves(
        self, responses: Float[np.ndarray, "n draws"], where: Int[np.ndarray, "draws k"]
    ) -> Float[np.ndarray, "places draws"]:
        return self._lines.curves(self._spread(responses), self._weights, where)

    def gain(self, responses: Float[np.ndarray, "n draws"], breaks: int) -> Float[np.ndarray, " draws"]:
        """Of one break more, as a part of what is left with most breaks."""
        wanted = sorted({breaks, breaks + 1, self.most})
        rest = self._lines.search(self._spread(responses), self._weights, wanted)
        # A residual without noise, of a signal that never changes, leaves only rounding to divide by.
        return (rest[breaks][0] - rest[breaks + 1][0]) / rest[self.most][0].clip(1e-6)

    def blurred(
        self, where: Int[np.ndarray, "draws k"], rng: np.random.Generator
    ) -> Float[np.ndarray, "draws k"]:
        """Positions of breaks, each anywhere nearer to its place on the grid than to the next."""
        at = self.grid[where] + rng.uniform(-0.5, 0.5, where.shape)
        return np.interp(at, np.arange(len(self.x)), self.x)
