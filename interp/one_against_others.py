"""Is a neuron's score higher in one language than in the others? One statistic for all neurons at once.

    d = own − o               own: mean of the language's blocks; o: mean of the other languages' own
    t = d / (se + s0)         se: pooled within languages
    effect = d / (|own| + |o| + u)
    its lower limit = (d − z (se + s0)) / (|own| + |o| + u)

The effect of signed scores is d itself: it is in nats, and two scores of opposite signs, however small, would
have the largest contrast that there is.
s0 and u keep neurons that hardly do anything from leading: one that fired twice, in two blocks of one
language, would have no error and the contrast 1. s0 (as in SAM: Tusher, Tibshirani & Chu, PNAS 98, 2001) is a
low quantile of the errors of its layer, u the median of its layer's |own| + |o|; scores of layers differ in
size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.stats import t as student

from babelscope.interp.neuron_blocks import blocks_of_each
from babelscope.interp.neuron_scores import method_of

FUDGE = 0.1  # quantile of a layer's standard errors that is s0
LIMIT = 0.95  # of the effect, one-sided
TOGETHER = 20  # ways of giving blocks away at once: what that takes is memory


class OneAgainstOthers:
    """Every language against the others, for several ways of giving blocks to languages.

    Where blocks are paired, what the languages of a block share is no noise, and is taken out of it.

    Parameters
    ----------
    cells
        Blocks of text, at least two per language; see `neuron_blocks.cells_of`.
    method
        Whose score is compared.
    given
        Ways of giving the cells to languages; the first one is real.
    """

    def __init__(self, cells: xr.Dataset, method: str, given: Int[np.ndarray, "draw cell"]):
        self.method = method_of(method)
        score = self.method.score(cells["total"], cells["tokens"]).transpose("cell", "layer", "neuron")
        self.values = score.to_numpy().astype(float).reshape(given.shape[1], -1)  # (cell, neuron)
        self.languages: list[str] = cells.attrs["languages"]
        self.sizes = blocks_of_each(cells)
        self.given = given
        noise, self._freedom = self._noise(paired=cells.attrs["paired"])
        self._spread = np.concatenate(
            [self._spread_of(noise, given[at : at + TOGETHER]) for at in range(0, len(given), TOGETHER)]
        )  # (draw, neuron)
        layers = score.sizes["layer"]
        self._least = _by_layer(self._spread[0], layers, _low).astype(np.float32)
        means = [np.abs(self._means(k, given[0])).sum(0) for k in range(len(self.languages))]
        self._usual = np.stack([_by_layer(both, layers, np.median) for both in means])  # (language, neuron)

    @property
    def neurons(self) -> int:
        """How many, over all layers."""
        return self.values.shape[1]

    def t(self, language: int) -> Float[np.ndarray, "draw neuron"]:
        """How many errors a language lies above the others; 0 for a constant neuron."""
        t = np.empty(self._spread.shape, np.float32)
        for at in range(0, len(t), TOGETHER):
            own, others = self._weights(language, self.given[at : at + TOGETHER])
            t[at : at + TOGETHER] = (own - others) @ self.values
        with np.errstate(divide="ignore", invalid="ignore"):
            t /= (self._spread + self._least) * np.float32(self._factor(language))
        return np.nan_to_num(t, copy=False, posinf=np.inf, neginf=-np.inf)

    def effect(self, language: int) -> Float[np.ndarray, " neuron"]:
        """On the real text; 0 for a neuron without any score."""
        own, others = self._means(language, self.given[0])
        return self._relative(own - others, own, others, self._usual[language])

    def limit(
        self, language: int, draw: int, neurons: Int[np.ndarray, " some"]
    ) -> Float[np.ndarray, " some"]:
        """Lower limit of some neurons' effect; 0 for a neuron without any score."""
        own, others = self._means(language, self.given[draw], neurons)
        error = (self._spread[draw, neurons] + self._least[neurons]) * self._factor(language)
        low = own - others - student.ppf(LIMIT, self._freedom) * error
        return self._relative(low, own, others, self._usual[language, neurons])

    def _relative(
        self,
        difference: Float[np.ndarray, " some"],
        own: Float[np.ndarray, " some"],
        others: Float[np.ndarray, " some"],
        usual: Float[np.ndarray, " some"],
    ) -> Float[np.ndarray, " some"]:
        if self.method.signed:
            return difference
        size = np.abs(own) + np.abs(others) + usual
        return np.divide(difference, size, out=np.zeros_like(difference), where=size > 0)

    def _noise(self, *, paired: bool) -> tuple[Float[np.ndarray, "cell neuron"], int]:
        """Values without what is no noise, but for the means of languages; degrees of freedom."""
        if not paired:
            return self.values - self.values.mean(0), len(self.values) - len(self.sizes)
        together = self.values.reshape(-1, len(self.sizes), self.neurons)  # (block, language, neuron)
        noise = (together - together.mean(1, keepdims=True)).reshape(self.values.shape)
        return noise, (len(together) - 1) * (len(self.sizes) - 1)

    def _spread_of(
        self, noise: Float[np.ndarray, "cell neuron"], given: Int[np.ndarray, "draw cell"]
    ) -> Float[np.ndarray, "draw neuron"]:
        """Standard deviation of blocks within languages."""
        within = np.tile(np.square(noise).sum(0), (len(given), 1))
        for language, size in enumerate(self.sizes):
            within -= size * np.square((given == language) / size @ noise)
        return np.sqrt(within.clip(0) / self._freedom).astype(np.float32)

    def _means(
        self, language: int, given: Int[np.ndarray, " cell"], neurons: Int[np.ndarray, " some"] | None = None
    ) -> tuple[Float[np.ndarray, " some"], Float[np.ndarray, " some"]]:
        """The language's mean, and the mean of the other languages'."""
        values = self.values if neurons is None else self.values[:, neurons]
        own, others = self._weights(language, given)
        return own @ values, others @ values

    def _weights(
        self, language: int, given: Int[np.ndarray, "*draw cell"]
    ) -> tuple[Float[np.ndarray, "*draw cell"], Float[np.ndarray, "*draw cell"]]:
        """By which cells are summed to these means: languages weigh the same, whatever their blocks."""
        own = (given == language) / self.sizes[language]
        return own, (given != language) / self.sizes[given] / (len(self.sizes) - 1)

    def _factor(self, language: int) -> float:
        """Standard error of d, in standard deviations of a block."""
        others = np.delete(1 / self.sizes, language)
        return float(np.sqrt(1 / self.sizes[language] + others.sum() / len(others) ** 2))


def _by_layer(
    values: Float[np.ndarray, " neuron"], layers: int, summary: Callable[..., float]
) -> Float[np.ndarray, " neuron"]:
    """A layer's summary, for each of its neurons."""
    by_layer = values.reshape(layers, -1)
    return np.repeat([summary(layer) for layer in by_layer], by_layer.shape[1])


def _low(errors: Float[np.ndarray, " neuron"]) -> float:
    """A low quantile of the errors that there are."""
    return float(np.quantile(errors[errors > 0], FUDGE)) if errors.any() else 0.0
