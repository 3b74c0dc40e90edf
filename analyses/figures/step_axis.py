"""A logarithmic axis of training steps that has a place for step 0.

The axis is log10(step). Step 0, the model that training starts from, is put to the left of a break.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped


class StepAxis:
    """Where steps are on the page.

    Parameters
    ----------
    steps
        Those that are shown; step 0 may be among them.
    """

    def __init__(self, steps: Shaped[np.ndarray, " n"]):
        steps = np.unique(np.asarray(steps, float))
        trained = steps[steps > 0]
        self.first, self.last = (np.log10(trained[[0, -1]]) if len(trained) else np.zeros(2)).tolist()
        self.width = max(self.last - self.first, 0.3)
        self.zero = self.first - 0.11 * self.width
        self.has_zero = bool((steps == 0).any())

    def at(self, steps: Shaped[np.ndarray, "*n"] | Sequence[float] | float) -> Float[np.ndarray, "*n"]:
        """Position of each step."""
        steps = np.asarray(steps, float)
        return np.where(steps > 0, np.log10(np.where(steps > 0, steps, 1)), self.zero)

    @property
    def range(self) -> tuple[float, float]:
        left = self.zero if self.has_zero else self.first
        return left - 0.035 * self.width, self.last + 0.035 * self.width

    def ticks(self, *, most: int) -> tuple[list[float], list[str]]:
        """Places and labels of 0 and of as many round steps as there is room for."""
        decades = 10 ** np.arange(np.floor(self.first), np.floor(self.last) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            steps = np.outer(decades, digits).ravel()
            # A little beyond the ends: a label there is better than none.
            reach = 0.02 * self.width
            steps = steps[(np.log10(steps) >= self.first - reach) & (np.log10(steps) <= self.last + reach)]
            if len(steps) <= most:
                break
        steps = np.concatenate([[0.0] if self.has_zero else [], steps])
        return self.at(steps).tolist(), [f"{step:,.0f}" for step in steps]
