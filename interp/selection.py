"""Which neurons are a language's, how many of them chance would have given, and at what false-discovery rate.

Every rule answers with a `Selection`: the members, and how many the same rule selects where blocks of text
are given to languages at random. Blocks are the unit, never tokens: a document has topics of its own, so its
tokens say one thing many times over.

`Lape` and `Frozen` apply thresholds (`lape`). `Fdr` asks two questions of every neuron and language:

    is it noise of sampling?      p = share of t at least as large, blocks given to languages at random
    is it more than untrained     p = share of the random model's neurons whose effect is at least the
    weights do?                       lower limit of this one's

with t, effect and limit of `one_against_others`. Every language has tokens of its own, so that most neurons
of even a random model tell languages apart if there is text enough: the first question alone does not ask
whether a model has *learnt* anything. A member needs both, p = the larger, and then Benjamini & Hochberg
(JRSS B 57, 1995) per language. Null values of t are pooled over neurons (Tusher, Tibshirani & Chu, PNAS 98,
2001), and the real way of giving blocks counts as one of the random ones (Phipson & Smyth, Stat. Appl. Genet.
Mol. Biol. 9, 2010).

What cannot be resolved. No rate below 1 / ways of giving the blocks away, which is refused. Against n random
neurons one that lies beyond them all has p = 1 / (n + 1), so that a model of n neurons needs about 1 / level
such neurons of a language; if there are fewer, the answer is none. Blocks are taken as independent, which
they are not where one document fills several.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control

from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.interp.lape import Thresholds
from babelscope.interp.neuron_blocks import (
    DRAWS,
    blocks_of_each,
    cells_of,
    given_away,
    rates,
    spoken,
    ways,
)
from babelscope.interp.one_against_others import OneAgainstOthers


@dataclass(frozen=True)
class Selection:
    """What a rule selected.

    Attributes
    ----------
    members
        bool (language, layer, neuron).
    q
        (language, layer, neuron) smallest false-discovery rate at which a neuron is a member; NaN for rules
        that know no such thing.
    null_count
        (language, draw) how many the rule selects where blocks are given to languages at random.
    """

    members: xr.DataArray
    q: xr.DataArray
    null_count: xr.DataArray

    @property
    def count(self) -> xr.DataArray:
        """(language,) how many were selected."""
        return self.members.sum(("layer", "neuron"))

    @property
    def false_discovery(self) -> xr.DataArray:
        """(language,) mean of `null_count` / count, at most 1; NaN where nothing was selected."""
        return (self.null_count.mean("draw") / self.count.where(self.count > 0)).clip(max=1)

    @classmethod
    def of(
        cls, found: xr.Dataset, members: np.ndarray, *, q: np.ndarray, null_count: np.ndarray
    ) -> Selection:
        """From arrays in the order of languages, layers and neurons of `found`."""
        like = found["total"].isel(block=0, drop=True).transpose("language", "layer", "neuron")
        return cls(
            like.copy(data=members.reshape(like.shape)).rename("members"),
            like.copy(data=q.reshape(like.shape)).rename("q"),
            xr.DataArray(null_count, dims=("language", "draw"), coords={"language": found["language"]}),
        )


class Rule(Protocol):
    """What selects neurons.

    Attributes
    ----------
    config
        What decides the answer, JSON-able.
    """

    @property
    def config(self) -> dict[str, Any]: ...

    def __call__(self, found: xr.Dataset) -> Selection:
        """Select from one checkpoint's `total` and `tokens`."""
        ...


@dataclass(frozen=True)
class Frozen:
    """Thresholds taken from elsewhere, say from another checkpoint: counts may then rise and fall freely."""

    thresholds: Thresholds

    @property
    def config(self) -> dict[str, Any]:
        return {"rule": "frozen", **asdict(self.thresholds)}

    def __call__(self, found: xr.Dataset) -> Selection:
        cells = cells_of(found)
        members, *null = (
            self.thresholds.members(rates(cells, spoken(cells, given))) for given in given_away(cells)
        )
        return Selection.of(
            found,
            members,
            q=np.full(members.shape, np.nan),
            null_count=np.stack([chance.sum((1, 2)) for chance in null], axis=1),
        )


@dataclass(frozen=True)
class Lape:
    """The paper's rule: the `selected` share of all neurons, those with the lowest entropy.

    The null keeps the thresholds of the real text: a fixed share of neurons is always found.
    """

    selected: float = 0.01

    @property
    def config(self) -> dict[str, Any]:
        return {"rule": "lape", "selected": self.selected}

    def thresholds(self, found: xr.Dataset) -> Thresholds:
        """What makes a neuron a language's in these totals."""
        cells = cells_of(found)
        return Thresholds.of(rates(cells, spoken(cells)), selected=self.selected)

    def __call__(self, found: xr.Dataset) -> Selection:
        return Frozen(self.thresholds(found))(found)


@dataclass(frozen=True)
class Fdr:
    """Neurons whose score is higher in one language than in the others, at a false-discovery rate.

    Parameters
    ----------
    method
        The measure whose totals are given; see `neuron_scores.METHODS`.
    level
        The false-discovery rate, of each language's neurons.
    reference
        Totals of the same measure on the random model. Without it the question is only whether languages
        differ, which they do in untrained weights too.
    most
        The largest share of all neurons that a language may have: those whose effect's limit is highest.
    """

    method: str
    level: float = 0.1
    reference: xr.Dataset | None = None
    most: float | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {
            "rule": "fdr",
            "method": self.method,
            "level": self.level,
            "reference": self._reference_digest,
            "most": self.most,
        }

    def __call__(self, found: xr.Dataset) -> Selection:
        """Select from one checkpoint's `total` and `tokens`.

        Raises
        ------
        InputError
            If a language has fewer than two blocks, if the blocks cannot be given to languages in enough ways
            for the level, or if the random model was measured on other languages.
        """
        cells = cells_of(found)
        _check(cells, self.level)
        test = OneAgainstOthers(cells, self.method, given_away(cells))
        random = self._random
        if random is not None and random.languages != test.languages:
            raise InputError(
                f"the random model was measured on {', '.join(random.languages)}, the checkpoint on "
                f"{', '.join(test.languages)}; measure both on one text"
            )
        most = test.neurons if self.most is None else round(self.most * test.neurons)
        everyone = np.arange(test.neurons)
        members, q, null_count = [], [], []
        for language in range(len(test.languages)):
            p = _P(test, language, None if random is None else np.sort(random.effect(language)))
            q.append(false_discovery_control(p(0, everyone)))
            chosen = np.flatnonzero(q[-1] <= self.level)
            strongest = chosen[np.argsort(-test.limit(language, 0, chosen), kind="stable")]
            members.append(np.isin(everyone, strongest[:most]))
            null_count.append([min(most, p.rejected(draw, self.level)) for draw in range(1, DRAWS + 1)])
        return Selection.of(found, np.stack(members), q=np.stack(q), null_count=np.array(null_count))

    @cached_property
    def _reference_digest(self) -> str | None:
        """Made once: every key of every checkpoint asks for it, and it takes seconds."""
        if self.reference is None:
            return None
        return digest([self.reference[name].to_numpy().tolist() for name in ("total", "tokens")])

    @cached_property
    def _random(self) -> OneAgainstOthers | None:
        if self.reference is None:
            return None
        cells = cells_of(self.reference)
        return OneAgainstOthers(cells, self.method, given_away(cells, draws=0))


class _P:
    """p of one language's neurons, however blocks are given to languages: the larger of the two."""

    def __init__(self, test: OneAgainstOthers, language: int, random: Float[np.ndarray, " random"] | None):
        self.test, self.language, self.random = test, language, random
        self.t = test.t(language)
        self.pool = np.sort(self.t, axis=None)

    def __call__(self, draw: int, neurons: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        chance = self._chance(draw, neurons)
        if self.random is None:
            return chance
        beyond = _at_least(self.random, self.test.limit(self.language, draw, neurons))
        return np.maximum(chance, (1 + beyond) / (1 + self.random.size))

    def rejected(self, draw: int, level: float) -> int:
        """How many Benjamini and Hochberg's procedure selects.

        It asks the second question only of those that the first one alone would select: mostly none.
        """
        bar = self.pool[-max(1, int(level * self.pool.size))]  # below it, p is beyond the level
        near = np.flatnonzero(self.t[draw] >= bar)
        chance = self._chance(draw, near)
        count = _step_up(chance, level, of=self.test.neurons)
        if self.random is None or count == 0:
            return count
        passed = near[chance <= level * count / self.test.neurons]
        return _step_up(self(draw, passed), level, of=self.test.neurons)

    def _chance(self, draw: int, neurons: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        return _at_least(self.pool, self.t[draw, neurons]) / self.pool.size


def _step_up(p: Float[np.ndarray, " some"], level: float, *, of: int) -> int:
    """How many of `of` hypotheses are rejected, when these have the lowest p."""
    passed = np.flatnonzero(np.sort(p) <= level * np.arange(1, len(p) + 1) / of)
    return int(passed[-1]) + 1 if len(passed) else 0


def _at_least(
    ordered: Float[np.ndarray, " n"], values: Float[np.ndarray, " some"]
) -> Int[np.ndarray, " some"]:
    """How many are at least as large as each value."""
    return ordered.size - np.searchsorted(ordered, values, side="left")


def _check(cells: xr.Dataset, level: float) -> None:
    languages, blocks = ", ".join(cells.attrs["languages"]), blocks_of_each(cells)
    if len(blocks) < 2 or blocks.min() < 2:
        raise InputError(
            f"neurons of {languages} cannot be told apart on {blocks.tolist()} blocks of text; give two "
            "languages, and text for two blocks of each"
        )
    lowest = 1 / min(ways(cells), DRAWS + 1)
    if level < lowest:
        raise InputError(
            f"a false-discovery rate of {level:g} cannot be resolved: {blocks.tolist()} blocks of "
            f"{languages} go down to {lowest:.2g}; give more text, or a higher rate"
        )
