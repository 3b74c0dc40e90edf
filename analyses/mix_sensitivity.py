"""Which input moves a mix: one at a time, the others as they are.

Of each target: the choice of α and of β, the best checkpoint over its interval, and the set of problems where
others could have been chosen. Of each language: half and twice the tokens that are said to exist, which move
the mix only where text runs out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from babelscope.analyses.algorithm_1 import TargetRun, moved_shares, target_tokens
from babelscope.analyses.nearest_mix import Bounds, Limits
from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import shown

AVAILABLE = (0.5, 2.0)  # times the tokens that are said to exist


class Swing(Strict):
    """What one input does to the weights.

    Attributes
    ----------
    name
        The input, for a reader: "best step of PHP".
    moved
        The largest part of the mix that it moves: ½ Σ_k |p_k − p'_k|.
    weights
        Lowest and highest weight of every language as the input moves.
    infeasible
        Whether one of its values leaves no mix that meets the limits; the weights are of the others.
    """

    name: str
    moved: float
    weights: dict[str, tuple[float, float]]
    infeasible: bool = False


def swings(
    runs: Sequence[TargetRun], *, pivot: str, pivot_tokens: float, limits: Limits
) -> tuple[Swing, ...]:
    """Every input that moves the mix, or leaves none, the one that moves most first.

    Parameters
    ----------
    runs
        One per target; each has a best checkpoint.
    pivot, pivot_tokens
        The pivot and η_pivot.
    limits
        What the mix keeps to.
    """
    best = {run.language: run.loss.at(run.best[0]) for run in runs}
    available = {pivot: pivot_tokens, **{run.language: run.available_tokens for run in runs}}
    bounds = Bounds.of(limits, available)
    mix = bounds.nearest(wanted_tokens(best, available, pivot))
    found = []
    for run in runs:
        for name, shares in moved_shares(run).items():
            wanted = [wanted_tokens(best | {run.language: share}, available, pivot) for share in shares]
            found.append(
                _swing(f"{name} of {shown(run.language)}", mix, bounds.nearest(np.array(wanted)), bounds)
            )
    for language, count in available.items():
        mixes = []
        for factor in AVAILABLE:
            changed = available | {language: factor * count}
            try:
                there = Bounds.of(limits, changed)
            except InputError:
                continue
            mixes.append(there.nearest(wanted_tokens(best, changed, pivot)))
        name = f"available tokens of {shown(language)}"
        found.append(_swing(name, mix, np.array(mixes), bounds, infeasible=len(mixes) < len(AVAILABLE)))
    moving = [one for one in found if one.moved > 1e-9 or one.infeasible]
    return tuple(sorted(moving, key=lambda one: -one.moved))


def wanted_tokens(
    shares: Mapping[str, float], available: Mapping[str, float], pivot: str
) -> Float[np.ndarray, " languages"]:
    """Unique tokens by Algorithm 1, in the order of `available`."""
    return np.array(
        [
            count if name == pivot else float(target_tokens(available[pivot], shares[name], available=count))
            for name, count in available.items()
        ]
    )


def _swing(
    name: str,
    mix: Float[np.ndarray, " languages"],
    moved: Float[np.ndarray, "values languages"],
    bounds: Bounds,
    *,
    infeasible: bool = False,
) -> Swing:
    every = np.vstack([mix, moved]) if len(moved) else mix[None]
    ranges = zip(bounds.languages, every.min(0).tolist(), every.max(0).tolist(), strict=True)
    return Swing(
        name=name,
        moved=float(np.abs(every - mix).sum(1).max() / 2),
        weights={language: (low, high) for language, low, high in ranges},
        infeasible=infeasible,
    )
