"""From totals to scores: what each method says a neuron is worth to a language.

    s_k = score(Σ over blocks of total_k, Σ over blocks of tokens_k)
    contrast_k = (s_k − o_k) / (|s_k| + |o_k|),    o_k = mean of s_j over the other languages j

The contrast is what makes a score one of a *language*: 1 where the neuron serves language k alone, 0 where
it serves all alike. Scores of opposite signs have contrast ±1, whatever their sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import xarray as xr

from babelscope.core.errors import InputError


@dataclass(frozen=True)
class Method:
    """How one measure's totals become scores.

    Attributes
    ----------
    name
        Of the measure.
    label, unit
        What readers call the score, and in what it is counted.
    score
        Of totals and the tokens they come from; dimensions broadcast by name.
    predicts
        What of an exact ablation the score claims to know: the signed change of the language's loss, its
        size, its excess over other languages' (of the contrast), or the change of an identifier's choice.
    """

    name: str
    label: str
    unit: str
    score: Callable[[xr.DataArray, xr.DataArray], xr.DataArray]
    predicts: Literal["loss", "size", "specificity", "choice"]

    @property
    def signed(self) -> bool:
        """Whether the score is an effect of either sign, in units of the effect itself."""
        return self.predicts in ("loss", "choice")


def _per_token(total: xr.DataArray, tokens: xr.DataArray) -> xr.DataArray:
    return total / tokens


def _root_mean_square(total: xr.DataArray, tokens: xr.DataArray) -> xr.DataArray:
    return (total / tokens) ** 0.5


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("transferring_neurons", "Firing", "share of tokens", _per_token, "specificity"),
        Method("plnd_ffn", "PLND, MLP", "RMS change of the output", _root_mean_square, "size"),
        Method("plnd_value", "PLND, value", "RMS change of the output", _root_mean_square, "size"),
        Method("plnd_query", "PLND, query", "RMS change of attention", _root_mean_square, "size"),
        Method("plnd_key", "PLND, key", "RMS change of attention", _root_mean_square, "size"),
        Method("gradient_attribution", "Attribution", "nats per token", _per_token, "loss"),
        Method("identifier_attribution", "Attribution to the choice", "log-odds", _per_token, "choice"),
        Method("direct_effect", "Direct effect on the choice", "log-odds", _per_token, "choice"),
    )
}


def method_of(name: str) -> Method:
    """The method of a measure.

    Raises
    ------
    InputError
        If there is none; the message names those there are.
    """
    if name not in METHODS:
        raise InputError(f"{name!r} scores no neurons; what does: {', '.join(METHODS)}")
    return METHODS[name]


def scores(found: xr.Dataset, method: str) -> xr.DataArray:
    """Each neuron's score in each language, over all blocks.

    Parameters
    ----------
    found
        `total` and `tokens` of the measure `method`, with or without a leading step.

    Returns
    -------
    xr.DataArray
        (language, layer, neuron), after the step if there is one.

    Raises
    ------
    InputError
        If the method is unknown, or a language has no tokens to score on.
    """
    tokens = found["tokens"].sum("block")
    if bool((tokens <= 0).any()):
        empty = tokens["language"].to_numpy()[(tokens <= 0).any([d for d in tokens.dims if d != "language"])]
        raise InputError(
            f"there are no tokens of {', '.join(map(str, empty))} to score neurons on; give some"
        )
    score = method_of(method).score(found["total"].sum("block"), tokens)
    return score.transpose(..., "language", "layer", "neuron").rename(method)


def contrast(scores: xr.DataArray) -> xr.DataArray:
    """Each language's score against the mean of the others', in [−1, 1]; 0 where all are 0.

    Raises
    ------
    InputError
        If there is one language only.
    """
    languages = scores.sizes["language"]
    if languages < 2:
        raise InputError(f"a contrast needs two languages; there is {scores['language'].to_numpy().tolist()}")
    others = (scores.sum("language") - scores) / (languages - 1)
    size = abs(scores) + abs(others)
    return ((scores - others) / size.where(size > 0, 1)).transpose(*scores.dims).rename("contrast")
