"""Is a neuron's score higher in one language than in the others? One statistic for all neurons at once.

    d  = mean of the language's blocks − o,     o = mean over the other languages of their blocks' means
    t  = d / (se + s0)                          se: pooled within languages; s0: a small constant
    lower limit of the contrast = (d − z (se + s0)) / (|own mean| + |o|)

t with its constant is that of SAM (Tusher, Tibshirani & Chu, PNAS 98, 2001): without s0 a neuron that fires
once per block of one language would have no error at all. s0 is a low quantile of its layer's errors, since
scores of layers differ in size. The limit stands for the contrast where contrasts are compared: a neuron
that fired once in all has contrast 1, and its limit is below 0.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.stats import t as student

from babelscope.interp.neuron_blocks import blocks_of_each
from babelscope.interp.neuron_scores import method_of

FUDGE = 0.1  # quantile of a layer's standard errors that is s0
LIMIT = 0.95  # of the contrast, one-sided
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
        score = method_of(method).score(cells["total"], cells["tokens"]).transpose("cell", "layer", "neuron")
        self.values = score.to_numpy().astype(float).reshape(given.shape[1], -1)  # (cell, neuron)
        self.neurons = self.values.shape[1]
        self.languages: list[str] = cells.attrs["languages"]
        self.sizes = blocks_of_each(cells)
        self.given = given
        languages, blocks = len(self.languages), int(self.sizes[0])
        if cells.attrs["paired"]:
            together = self.values.reshape(blocks, languages, -1)
            noise = (together - together.mean(1, keepdims=True)).reshape(self.values.shape)
            self.freedom = (blocks - 1) * (languages - 1)
        else:
            noise = self.values - self.values.mean(0)
            self.freedom = len(noise) - languages
        self._spread = np.concatenate(
            [self._spread_of(noise, given[at : at + TOGETHER]) for at in range(0, len(given), TOGETHER)]
        )  # (draw, neuron)
        by_layer = self._spread[0].reshape(score.sizes["layer"], -1)
        usual = [np.quantile(layer[layer > 0], FUDGE) if layer.any() else 0.0 for layer in by_layer]
        self._least = np.repeat(usual, by_layer.shape[1]).astype(np.float32)  # (neuron,)
        self._usual = np.zeros((languages, self.neurons))
        for k in range(languages):
            own, others = (w @ self.values for w in self._weights(k, given[0]))
            self._usual[k] = np.repeat(np.median((abs(own) + abs(others)).reshape(by_layer.shape), 1), by_layer.shape[1])

    def t(self, language: int) -> Float[np.ndarray, "draw neuron"]:
        """How many (moderated) errors a language lies above the others; 0 for a constant neuron."""
        t = np.empty(self._spread.shape, np.float32)
        for at in range(0, len(t), TOGETHER):
            own, others = self._weights(language, self.given[at : at + TOGETHER])
            t[at : at + TOGETHER] = (own - others) @ self.values
        with np.errstate(divide="ignore", invalid="ignore"):
            t /= (self._spread + self._least) * np.float32(self._factor(language))
        return np.nan_to_num(t, copy=False, posinf=np.inf, neginf=-np.inf)

    def limit(
        self, language: int, draw: int, neurons: Int[np.ndarray, " some"] | slice = slice(None), lower=True
    ) -> Float[np.ndarray, " some"]:
        """Lower limit of the contrast; 0 for a neuron without any score."""
        own, others = (w @ self.values[:, neurons] for w in self._weights(language, self.given[draw]))
        error = (self._spread[draw, neurons] + self._least[neurons]) * self._factor(language)
        low = own - others - (student.ppf(LIMIT, self.freedom) * error if lower else 0)
        size = np.abs(own) + np.abs(others) + self._usual[language, neurons]
        return np.divide(low, size, out=np.zeros_like(low), where=size > 0)

    def _weights(
        self, language: int, given: Int[np.ndarray, "*draw cell"]
    ) -> tuple[Float[np.ndarray, "*draw cell"], Float[np.ndarray, "*draw cell"]]:
        """By which the cells are summed to a language's mean, and to the mean of the other languages'."""
        shares = np.where(given == language, 0, 1 / self.sizes[given]) / (len(self.sizes) - 1)
        return (given == language) / self.sizes[language], shares

    def _factor(self, language: int) -> float:
        """Standard error of d, in standard deviations of a block."""
        others = np.delete(1 / self.sizes, language)
        return float(np.sqrt(1 / self.sizes[language] + others.sum() / len(others) ** 2))

    def _spread_of(
        self, noise: Float[np.ndarray, "cell neuron"], given: Int[np.ndarray, "draw cell"]
    ) -> Float[np.ndarray, "draw neuron"]:
        """Standard deviation of blocks within languages."""
        within = np.tile(np.square(noise).sum(0), (len(given), 1))
        for language, size in enumerate(self.sizes):
            within -= size * np.square((given == language) / size @ noise)
        return np.sqrt(within.clip(0) / self.freedom).astype(np.float32)
