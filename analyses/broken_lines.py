"""Continuous piecewise-linear curves over a series: every set of breaks, for many noisy copies at once.

    y(x) = b0 + b1·x + Σ_k d_k·max(x − τ_k, 0),   k = 1 … K

Breaks τ are searched exhaustively over the inner checkpoints. For given breaks the curve is linear in its
coefficients, so the residual sum of squares of every candidate, for every copy, is a product of small
matrices. What y is, and how its noise is made, is the business of who asks: `segmented.py` (logits of solved
problems) and `signal_curve.py` (anything measured with bootstrap draws).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

GRID = 40  # checkpoints a break may be at: the cost is cubic in them, and no curve resolves more
CHUNK = 512  # candidates handled at once: what stays in the processor's cache


class BrokenLines:
    """Candidates for the curve of one series.

    Parameters
    ----------
    x
        Positions of the checkpoints (log10 of the step), ascending.
    max_breaks
        Most breaks to consider; fewer where a fit would leave no residual degree of freedom.

    Attributes
    ----------
    grid
        Checkpoints at which a break may be: their indices.
    """

    def __init__(self, x: Float[np.ndarray, " n"], *, max_breaks: int):
        inner = np.arange(1, len(x) - 1)
        self.grid = inner[np.linspace(0, len(inner) - 1, min(GRID, len(inner))).round().astype(int)]
        self._line = np.column_stack([np.ones_like(x), x])
        self._hinges = np.maximum(x[:, None] - x[self.grid], 0)  # (n, grid)
        self._candidates = {
            k: np.array(list(combinations(range(len(self.grid)), k)), int)  # (candidates, k)
            for k in range(max_breaks + 1)
            if 2 + 2 * k < len(x)
        }
        self.max_breaks = max(self._candidates)

    def search(
        self, responses: Float[np.ndarray, "n draws"], weights: Float[np.ndarray, " n"], breaks: Sequence[int]
    ) -> dict[int, tuple[Float[np.ndarray, " draws"], Int[np.ndarray, "draws k"]]]:
        """For each number of breaks, the least weighted residual sum of squares and where on the grid."""
        scale = np.sqrt(weights)[:, None]
        q, _ = np.linalg.qr(self._line * scale)
        hinges = self._hinges * scale
        hinges = hinges - q @ (q.T @ hinges)
        rest = responses * scale
        rest = rest - q @ (q.T @ rest)
        gram, cross, line = hinges.T @ hinges, hinges.T @ rest, (rest**2).sum(0)
        gram[np.diag_indices_from(gram)] *= 1 + 1e-9  # neighbours on the grid can be nearly one
        draws, found = np.arange(responses.shape[1]), {}
        for k in breaks:
            best = np.full(len(draws), -1.0)
            where = np.zeros((len(draws), k), int)
            for first in range(0, len(self._candidates[k]) if k else 0, CHUNK):
                sets = self._candidates[k][first : first + CHUNK]  # (candidates, k)
                root = np.linalg.inv(np.linalg.cholesky(gram[sets[:, :, None], sets[:, None, :]]))
                explained = ((root @ cross[sets]) ** 2).sum(1)  # (candidates, draws)
                top = explained.argmax(0)
                better = explained[top, draws] > best
                best = np.where(better, explained[top, draws], best)
                where[better] = sets[top[better]]
            found[k] = (line - best if k else line, where)
        return found

    def curves(
        self,
        responses: Float[np.ndarray, "n draws"],
        weights: Float[np.ndarray, " n"],
        where: Int[np.ndarray, "draws k"],
    ) -> Float[np.ndarray, "n draws"]:
        """Weighted least-squares curves with the breaks of each draw."""
        line = np.broadcast_to(self._line, (len(where), *self._line.shape))
        design = np.concatenate([line, self._hinges.T[where].transpose(0, 2, 1)], axis=2)  # (draws, n, 2 + k)
        scale = np.sqrt(weights)
        coefficients = np.linalg.pinv(design * scale[:, None]) @ (responses.T * scale)[:, :, None]
        return (design @ coefficients)[:, :, 0].T
