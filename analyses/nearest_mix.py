"""The mix nearest to a wanted one that a budget, the text that exists, floors and ceilings allow.

    p = argmin KL(p‖q) = Σ_k p_k ln(p_k / q_k)   with Σ_k p_k = 1 and low_k ≤ p_k ≤ high_k

q are the wanted shares of the processed tokens. low_k is a floor or 0; high_k is the smallest of 1, a ceiling
and, where the run's budget of processed tokens D is known, what the text allows: epochs · available_k / D.

In such a box the answer is p_k = clip(c · q_k, low_k, high_k) with one c for all languages: where p_k is
inside its bounds, ln(p_k / q_k) + 1 is the multiplier of the sum, the same for all. Σ_k p_k grows with c, in
lines between the 2n values of c at which a language reaches a bound, so c is found exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from babelscope.analyses.amounts import amount
from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import shown

EPOCHS = (
    4.0  # up to here repeated text was worth nearly as much as new (Muennighoff et al., arXiv 2305.16264)
)
ROUNDING = 1e-9  # of shares, by which a limit may be missed
# Stands for a wanted share of 0, which leaves KL infinite wherever a floor asks for some: the limit of less
# and less wanted, the same for all such languages.
LEAST = 1e-300

Share = Annotated[float, Field(ge=0, le=1)]


class Limits(Strict):
    """What a mix must keep to.

    Parameters
    ----------
    budget
        Processed tokens of the run; None where it is not known, and then text cannot run out.
    epochs
        How often the text that exists may be read; needs the budget.
    floors, ceilings
        Least and largest share of the processed tokens, by language.
    """

    budget: int | None = Field(default=None, gt=0)
    epochs: float = Field(default=EPOCHS, gt=0)
    floors: dict[str, Share] = Field(default_factory=dict)
    ceilings: dict[str, Share] = Field(default_factory=dict)


class Binding(Strict):
    """A limit without which the mix would be another.

    Attributes
    ----------
    language, limit
        Whose, and which of its limits.
    bound, wanted
        The share that it holds the language to, and the share that was wanted.
    """

    language: str
    limit: Literal["floor", "ceiling", "epochs"]
    bound: float
    wanted: float

    @property
    def sentence(self) -> str:
        """What it costs, in words."""
        name = {"epochs": "limit of epochs"}.get(self.limit, self.limit)
        return (
            f"The {name} of {shown(self.language)} binds: {self.bound:.1%} where {self.wanted:.1%} is wanted."
        )


@dataclass(frozen=True)
class Bounds:
    """Lowest and highest share of every language, for which some mix exists.

    Attributes
    ----------
    languages
        In the order of the arrays.
    low, high : (languages,)
        Of the processed tokens.
    by_epochs : (languages,)
        Whether the text that exists, not a ceiling, makes `high`.
    """

    languages: tuple[str, ...]
    low: Float[np.ndarray, " languages"]
    high: Float[np.ndarray, " languages"]
    by_epochs: np.ndarray

    @classmethod
    def of(cls, limits: Limits, available: Mapping[str, float]) -> Bounds:
        """Bounds of the languages of `available`, the unique tokens that exist.

        Raises
        ------
        InputError
            If a limit is about another language, or if no mix meets them all: the message says which
            conflict and by how much.
        """
        languages = tuple(available)
        for kind, given in (("floor", limits.floors), ("ceiling", limits.ceilings)):
            if unknown := [name for name in given if name not in languages]:
                raise InputError(
                    f"a {kind} is given for {unknown[0]!r}, but the mix is of {', '.join(languages)}"
                )
        low = np.array([limits.floors.get(name, 0.0) for name in languages])
        high = np.array([limits.ceilings.get(name, 1.0) for name in languages])
        exists = np.array([available[name] for name in languages], float)
        allowed = limits.epochs * exists / limits.budget if limits.budget else np.ones(len(languages))
        found = cls(languages, low, np.minimum(high, allowed), allowed < high)
        found._check(limits, exists)
        return found

    def nearest(self, wanted: Float[np.ndarray, "*draws languages"]) -> Float[np.ndarray, "*draws languages"]:
        """`nearest_mix` within these bounds."""
        return nearest_mix(wanted, low=self.low, high=self.high)

    def binding(self, wanted: Float[np.ndarray, " languages"]) -> tuple[Binding, ...]:
        """The limits without any one of which the nearest mix to `wanted` would be another."""
        shares, given = wanted / np.sum(wanted), self.nearest(wanted)
        found = []
        for k, language in enumerate(self.languages):
            low, high = self.low.copy(), self.high.copy()
            low[k], high[k] = 0, 1
            for limit, ends, bound in (
                ("floor", (low, self.high), self.low[k]),
                ("epochs" if self.by_epochs[k] else "ceiling", (self.low, high), self.high[k]),
            ):
                without = nearest_mix(wanted, low=ends[0], high=ends[1])
                if not np.allclose(without, given, rtol=0, atol=ROUNDING):
                    told = {"language": language, "limit": limit, "bound": bound, "wanted": shares[k]}
                    found.append(Binding.model_validate(told))
        return tuple(found)

    def broken_by(self, weights: Mapping[str, float]) -> list[str]:
        """What keeps a mix from being within the bounds, in words: "PHP 93.4%, ceiling 60.0%"."""
        found = []
        for name, low, high, epochs in zip(self.languages, self.low, self.high, self.by_epochs, strict=True):
            if low - ROUNDING <= weights[name] <= high + ROUNDING:
                continue
            above = ("limit of epochs" if epochs else "ceiling", high)
            limit, bound = above if weights[name] > high else ("floor", low)
            found.append(f"{shown(name)} {weights[name]:.1%}, {limit} {bound:.1%}")
        return found

    def _check(self, limits: Limits, exists: Float[np.ndarray, " languages"]) -> None:
        if self.low.sum() > 1 + ROUNDING:
            listed = ", ".join(f"{name} {floor:g}" for name, floor in limits.floors.items())
            over = self.low.sum() - 1
            raise InputError(
                f"the floors sum to {self.low.sum():g}, more than 1 ({listed}); lower them by {over:g}"
            )
        for name, low, high, epochs, count in zip(
            self.languages, self.low, self.high, self.by_epochs, exists, strict=True
        ):
            if low <= high + ROUNDING:
                continue
            if not epochs:
                raise InputError(
                    f"{name}: the floor {low:g} is above the ceiling {high:g}; change one of them"
                )
            raise InputError(
                f"{name}: the floor {low:g} of a budget of {amount(limits.budget or 0)} is"
                f" {amount(low * (limits.budget or 0))} tokens, but {limits.epochs:g} epochs of the"
                f" {amount(count)} that exist give {amount(limits.epochs * count)}; lower the floor or the"
                " budget"
            )
        if self.high.sum() >= 1 - ROUNDING:
            return
        if not self.by_epochs.any():
            raise InputError(f"the ceilings sum to {self.high.sum():g}, less than 1; raise them")
        budget = limits.budget or 0
        listed = ", ".join(
            f"{name} {amount(high * budget)}{'' if epochs else ' by its ceiling'}"
            for name, high, epochs in zip(self.languages, self.high, self.by_epochs, strict=True)
        )
        raise InputError(
            f"a budget of {amount(budget)} tokens cannot be filled: {limits.epochs:g} epochs of all that"
            f" exists give {amount(self.high.sum() * budget)} ({listed}); lower the budget, allow more"
            " epochs, raise a ceiling or add text"
        )


def nearest_mix(
    wanted: Float[np.ndarray, "*draws languages"],
    *,
    low: Float[np.ndarray, " languages"],
    high: Float[np.ndarray, " languages"],
) -> Float[np.ndarray, "*draws languages"]:
    """argmin KL(p‖q) over the mixes between `low` and `high`; exact, and at once for many q.

    A language of which nothing is wanted gets its floor, and more only where the others cannot take it.

    Parameters
    ----------
    wanted
        In any unit: shares or tokens, at least one above 0.
    low, high
        Σ low ≤ 1 ≤ Σ high and low ≤ high, as `Bounds.of` makes sure.
    """
    wanted = np.asarray(wanted, float)
    q = np.maximum(wanted / wanted.sum(-1, keepdims=True), LEAST)
    from_low, to_high = low / q, high / q
    kinks = np.sort(np.concatenate([from_low, to_high], axis=-1), axis=-1)  # (*draws, 2 · languages)
    c = _last_within(kinks, q, low, high)
    free = (from_low <= c) & (c < to_high)
    fixed = np.where(free, 0, np.clip(c * q, low, high))
    share = np.where(free, q, 0)
    free_share = share.sum(-1, keepdims=True)
    rest = 1 - fixed.sum(-1, keepdims=True)
    # share / free_share first: both may be as small as LEAST, and rest / LEAST is too large for a float.
    inside = share / np.where(free_share > 0, free_share, 1) * rest
    return np.clip(np.where(free, inside, fixed), low, high)


def _last_within(
    kinks: Float[np.ndarray, "*draws kinks"],
    q: Float[np.ndarray, "*draws languages"],
    low: Float[np.ndarray, " languages"],
    high: Float[np.ndarray, " languages"],
) -> Float[np.ndarray, "*draws 1"]:
    """The largest kink at which the shares do not sum to more than 1, by bisection: the sum grows with c."""
    first = np.zeros((*kinks.shape[:-1], 1), int)
    last = np.full_like(first, kinks.shape[-1] - 1)
    for _ in range(int(kinks.shape[-1]).bit_length()):
        middle = (first + last + 1) // 2
        total = np.clip(np.take_along_axis(kinks, middle, axis=-1) * q, low, high).sum(-1, keepdims=True)
        within = total <= 1 + 1e-12  # rounding
        first, last = np.where(within, middle, first), np.where(within, last, np.maximum(middle - 1, first))
    return np.take_along_axis(kinks, first, axis=-1)
