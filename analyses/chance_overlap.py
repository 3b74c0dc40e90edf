"""What two sets of neurons share by chance: as many in every layer as they have, but random ones.

    overlap = Σ_layer Hypergeometric(neurons of the layer, first set there, second set there)

Layers are independent, so that the distribution is the convolution of theirs: exact, without draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from babelscope.core.stats import LEVEL

MORE, LESS, UNRESOLVED = "more than chance", "less than chance", "not resolvable"
REACH = 10.0  # standard deviations (and neurons) beyond the mean: what is farther has no weight in doubles


@dataclass(frozen=True)
class Chance:
    """The exact distribution of an overlap.

    Attributes
    ----------
    least
        The smallest count of any weight.
    probability
        Of that count and of those that follow it.
    """

    least: int
    probability: Float[np.ndarray, " count"]

    @classmethod
    def of(
        cls,
        neurons: Int[np.ndarray, " stratum"],
        first: Int[np.ndarray, " stratum"],
        second: Int[np.ndarray, " stratum"],
    ) -> Chance:
        """The overlap of random sets that have so many of each stratum's neurons."""
        least, probability = 0, np.ones(1)
        drawn = (np.asarray(first) > 0) & (np.asarray(second) > 0)
        for of_all, a, b in zip(
            *(np.asarray(sizes)[drawn] for sizes in (neurons, first, second)), strict=True
        ):
            mean = a * b / of_all
            reach = REACH * (1 + (mean * (1 - a / of_all) * (1 - b / of_all)) ** 0.5)
            low = int(max(0, a + b - of_all, np.floor(mean - reach)))
            k = np.arange(low, min(a, b, np.ceil(mean + reach)))
            # P(k + 1) / P(k): their products are in proportion to P, without factorials.
            ratio = (a - k) * (b - k) / ((k + 1) * (of_all - a - b + k + 1))
            logarithm = np.append(0, np.cumsum(np.log(ratio)))
            weight = np.exp(logarithm - logarithm.max())
            probability = np.convolve(probability, weight / weight.sum())
            least += low
        return cls(least, probability)

    @property
    def counts(self) -> Int[np.ndarray, " count"]:
        return self.least + np.arange(len(self.probability))

    @property
    def mean(self) -> float:
        return float(self.counts @ self.probability)

    def interval(self, *, level: float = LEVEL) -> tuple[int, int]:
        """Counts beyond which there is at most (1 − level) / 2 on either side."""
        tail = (1 - level) / 2
        low = np.argmax(np.cumsum(self.probability) > tail)
        high = np.argmax(np.cumsum(self.probability[::-1]) > tail)
        return int(self.counts[low]), int(self.counts[-1 - high])

    def verdict(self, count: int) -> str:
        """How a count stands to chance; "not resolvable" inside the interval."""
        low, high = self.interval()
        return MORE if count > high else LESS if count < low else UNRESOLVED
