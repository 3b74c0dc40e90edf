"""Language activation probability entropy (LAPE): which neurons serve few languages.

    p^k = share of language k's tokens on which the neuron fires (gate pre-activation > 0)
    p'  = p / Σ_k p^k,   H = -Σ_k p'^k ln p'^k

Tang et al., ACL 2024; arXiv 2412.07298 calls these neurons language-transferring and counts them
per language. Selection: τ is the 95th percentile of all p; candidates fire above τ for some
language; of these the lowest 1 % (of all neurons) by H; a neuron belongs to every language with
p > τ, so the sets are not disjoint.

A fixed 1 % makes counts of different languages trade off by construction: what one gains another
loses. `Thresholds` taken from one checkpoint and applied to all are free of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from babelscope.core.errors import InputError


def firing_rate(
    positive: Int[np.ndarray, "language *neuron"], tokens: Int[np.ndarray, " language"]
) -> Float[np.ndarray, "language *neuron"]:
    """p^k from counts: how often each neuron fired, over the tokens of each language."""
    if (tokens <= 0).any():
        raise InputError(f"every language needs tokens to count over; got {tokens.tolist()}")
    return positive / tokens.reshape(-1, *[1] * (positive.ndim - 1))


def entropy(rate: Float[np.ndarray, "language *neuron"]) -> Float[np.ndarray, "*neuron"]:
    """H in nats: 0 where one language has all firing, ln(languages) where all fire alike.

    A neuron that never fires serves no language: its entropy is +inf, so it is never selected.
    """
    total = rate.sum(0)
    share = np.divide(rate, total, out=np.zeros_like(rate), where=total > 0)
    terms = share * np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.where(total > 0, -terms.sum(0), np.inf)


@dataclass(frozen=True)
class Thresholds:
    """What makes a neuron a language's: `rate` is τ, `entropy` the cut-off of H."""

    rate: float
    entropy: float

    @classmethod
    def of(
        cls,
        rate: Float[np.ndarray, "language *neuron"],
        *,
        selected: float = 0.01,
        percentile: float = 0.95,
    ) -> Thresholds:
        """The paper's: τ at `percentile` of all rates, H such that `selected` of all neurons pass."""
        everything = np.sort(rate, axis=None)
        tau = float(everything[max(0, round(percentile * everything.size) - 1)])  # kth value, as published
        candidates = np.where((rate > tau).any(0), entropy(rate), np.inf).reshape(-1)
        budget = min(round(selected * candidates.size), int(np.isfinite(candidates).sum()))
        if budget == 0:
            return cls(tau, -np.inf)
        return cls(tau, float(np.partition(candidates, budget - 1)[budget - 1]))

    def members(self, rate: Float[np.ndarray, "language *neuron"]) -> Bool[np.ndarray, "language *neuron"]:
        """Which neurons belong to which languages."""
        return (rate > self.rate) & (entropy(rate) <= self.entropy)
