"""Whether a language's neurons matter: the whole set ablated, against random sets of the same kind.

A set is what a rule (`selection`) makes of a score of this very checkpoint. What ablating it does means
little by itself: any set of as many neurons, as active, in as deep a layer does something. So each has
`RANDOM` sets beside it. A random set takes, for every neuron of the set, another one of the same layer that
is not in the set, from the tenth of those others that are closest in activation size (root mean square on
held-out text).

`SetAblation` reads the loss of held-out documents of every language; `SetAblationChoice` the identifier that
the model chooses where the target's is due, under steering (`ablation`) too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import xarray as xr

from babelscope.interp.ablation import ABLATIONS, TOKENS, Activity, Mode, Pool, change, nats
from babelscope.interp.identifier_choice import IdentifierChoice, asked
from babelscope.interp.measure import Drive, FromModel, Item, R
from babelscope.interp.selection import Rule
from babelscope.interp.streams import PromptReading, PromptStream, TextReading, TextStream

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from babelscope.interp.ablation import Change, Members
    from babelscope.interp.anatomy import Anatomy

RANDOM = 8  # sets to compare each with
NEAR = 0.1  # of a layer's other neurons: those closest in activation size


class Pass(NamedTuple):
    """One set in one mode: `draw` counts the random sets from 1, and 0 is the set itself."""

    language: int
    draw: int
    mode: int
    change: Change


class _OfSets(Drive[R]):
    """What sets of neurons do in one model, made from the result of the measure that it needs."""

    shard_tokens = 1 << 12
    modes: ClassVar[tuple[Mode, ...]] = ABLATIONS
    members: xr.DataArray  # from `using` on

    def __init__(self, *, needs: FromModel[Any], rule: Rule):
        self.needs: FromModel[Any] = needs
        self.rule = rule

    @property
    def config(self) -> dict[str, Any]:
        return {"rule": self.rule.config, "random": RANDOM, "near": NEAR, "modes": list(self.modes)}

    def using(self, found: xr.Dataset) -> Self:
        """With the sets of the checkpoint whose totals these are."""
        ready = copy.copy(self)
        ready.members = self.rule(found).members
        return ready

    def sets(self, languages: Sequence[str]) -> Bool[np.ndarray, "language layer neuron"]:
        """One set for each language."""
        return self.members.sel(language=list(languages)).transpose("language", "layer", "neuron").to_numpy()

    def passes(
        self, anatomy: Anatomy, text: TextReading, languages: Sequence[str], *, patches: dict[str, str]
    ) -> Iterator[Pass]:
        """Every set, with its random sets, in every mode.

        An empty set has no passes, and no random ones where a layer has too few other neurons.

        Parameters
        ----------
        text
            What usual activations are taken from.
        patches
            From whose text each language's set takes its mean.
        """
        activity = Activity.of(anatomy, text)
        sets = [[own, *_random(own, activity.size)] for own in self.sets(languages)]
        pool = Pool.of(anatomy, text, np.any([one for some in sets for one in some], axis=0))
        for number, (language, some) in enumerate(zip(languages, sets, strict=True)):
            for draw, one in enumerate(some if some[0].any() else []):
                for mode, how in enumerate(self.modes):
                    made = change(
                        anatomy, one, how, activity=activity, pool=pool, language=patches.get(language)
                    )
                    yield Pass(number, draw, mode, made)


def matched(
    members: Members, size: Float[np.ndarray, "layer neuron"], rng: np.random.Generator
) -> Members | None:
    """A random set with as many neurons in every layer, of like activation size, none of them in the set.

    None where a layer has fewer other neurons than the set has of its.
    """
    found = np.zeros_like(members)
    for layer, (inside, of_layer) in enumerate(zip(members, size, strict=True)):
        free = np.flatnonzero(~inside)
        free = free[np.argsort(of_layer[free], kind="stable")]
        if len(free) < inside.sum():
            return None
        near = max(1, round(NEAR * len(free)))
        for neuron in rng.permutation(np.flatnonzero(inside)):
            middle = int(np.searchsorted(of_layer[free], of_layer[neuron]))
            start = min(max(0, middle - near // 2), max(0, len(free) - near))
            chosen = rng.integers(start, min(start + near, len(free)))
            found[layer, free[chosen]] = True
            free = np.delete(free, chosen)
    return found


def _random(members: Members, size: Float[np.ndarray, "layer neuron"]) -> list[Members]:
    rng = np.random.default_rng(0)
    drawn = [matched(members, size, rng) for _ in range(RANDOM)]
    return [one for one in drawn if one is not None]


class SetAblation(_OfSets[TextReading]):
    """Loss of held-out documents with each language's set ablated.

    Result, by `document` (coordinate `language`): `before` (nats), `tokens`; by `set` (a language), `mode`
    and document `after`; by `draw` besides `null_after`; by set and layer `size`. NaN for an empty set, and
    for random sets where a layer has not enough other neurons.

    Parameters
    ----------
    stream
        Held-out text; usual activations are taken from it, too. A few thousand tokens per language will do,
        of many documents (`activations.excerpts`): they are what is resampled. It is read 9 × 3 times for
        every language.
    needs
        The score that sets are made of: a measure of totals.
    rule
        Makes sets of its result.
    """

    name: ClassVar[str] = "set_ablation"
    version: ClassVar[int] = 1

    def __init__(self, stream: TextStream, *, needs: FromModel[Any], rule: Rule):
        super().__init__(needs=needs, rule=rule)
        self.stream = stream

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: TextReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        from babelscope.interp.batching import batches
        from babelscope.interp.lens import Readout

        readout, languages = Readout(anatomy), reading.languages
        some = list(batches(shard, tokens=TOKENS, device=anatomy.device))
        windows = [item.index for batch in some for item in batch.items]

        def losses(made: Change | None) -> Float[np.ndarray, " window"]:
            edits = [made.edit([i.index for i in batch.items]) if made else None for batch in some]
            return np.concatenate([nats(anatomy, readout, *pair) for pair in zip(some, edits, strict=True)])

        after = np.full((len(languages), 1 + RANDOM, len(self.modes), len(windows)), np.nan)
        for one in self.passes(anatomy, reading, languages, patches={}):
            after[one.language, one.draw, one.mode] = losses(one.change)
        by_window = _dataset(after, languages, self.modes, of="window").assign(
            before=("window", losses(None)),
            size=(("set", "layer"), self.sets(languages).sum(-1)),
        )
        return by_window.assign_coords(window=windows)

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        """Sums over each document's windows."""
        whole = xr.concat(parts, dim="window", data_vars="minimal").sortby("window")
        whole["tokens"] = "window", [len(item.ids) - 1 for item in reading.items]
        by_window = whole.drop_vars("size").assign_coords(window=("window", reading.document))
        by_document = by_window.groupby("window").sum(skipna=False).rename(window="document")
        first = np.unique(reading.document, return_index=True)[1]
        names = np.array(reading.languages)[reading.language[first]]
        return by_document.assign(size=whole["size"]).assign_coords(language=("document", names))


class SetAblationChoice(_OfSets[PromptReading]):
    """The identifier chosen at the target's prompts with the pivot's or the target's set changed.

    Result, by `prompt` of the target: `before` (log-odds of pivot against target) and `right_before`
    (probability of the target's identifiers); by `set` and `mode` besides `after` and `right_after`; by
    `draw` besides `null_after` and `null_right_after`; by set and layer `size`.

    Parameters
    ----------
    stream
        Identifier probes, the pivot's and the target's among them.
    text
        What usual activations are taken from: `patch` sets the target's set to its mean over the pivot's
        text, and the pivot's to its mean over the target's.
    needs, rule
        As for `SetAblation`.
    pivot, target
        Prompts are the target's.
    """

    name: ClassVar[str] = "set_ablation_choice"
    version: ClassVar[int] = 1
    modes: ClassVar[tuple[Mode, ...]] = tuple(Mode)

    def __init__(
        self,
        stream: PromptStream,
        *,
        text: TextStream,
        needs: FromModel[Any],
        rule: Rule,
        pivot: str,
        target: str,
    ):
        super().__init__(needs=needs, rule=rule)
        self.stream, self.text = stream, text
        self.pivot, self.target = pivot, target

    @property
    def config(self) -> dict[str, Any]:
        return super().config | {"text": self.text.key, "pivot": self.pivot, "target": self.target}

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: PromptReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        import torch

        from babelscope.interp.batching import batches

        languages = (self.pivot, self.target)
        prompts = asked(reading, shard, pivot=self.pivot, target=self.target)
        choice = IdentifierChoice(anatomy, reading, pivot=self.pivot, target=self.target)
        some = list(batches(prompts, tokens=TOKENS, device=anatomy.device))
        order = [item.index for batch in some for item in batch.items]

        def chosen(made: Change | None) -> Float[np.ndarray, "2 prompt"]:
            found = [np.empty((2, 0))]
            for batch in some:
                last = choice.last(batch, made.edit([i.index for i in batch.items]) if made else None)
                found.append(np.stack([choice.log_odds(last, batch.items), choice.right(last, batch.items)]))
            return np.concatenate(found, axis=1)

        with torch.no_grad():
            before = chosen(None)
            after = np.full((2, len(languages), 1 + RANDOM, len(self.modes), len(order)), np.nan)
            swapped = {self.pivot: self.target, self.target: self.pivot}
            for one in self.passes(anatomy, self.text.read(tokenizer), languages, patches=swapped):
                after[:, one.language, one.draw, one.mode] = chosen(one.change)
        odds, right = (_dataset(values, languages, self.modes, of="prompt") for values in after)
        found = odds.assign(
            before=("prompt", before[0]),
            right_before=("prompt", before[1]),
            right_after=right["after"],
            null_right_after=right["null_after"],
            size=(("set", "layer"), self.sets(languages).sum(-1)),
        )
        return found.assign_coords(prompt=np.array(order, int))

    def combine(self, parts: Sequence[xr.Dataset], reading: PromptReading) -> xr.Dataset:
        """By the target's prompts, with their concepts."""
        whole = xr.concat(parts, dim="prompt", data_vars="minimal").sortby("prompt")
        concepts = [reading.probes[prompt].concept for prompt in whole["prompt"].to_numpy()]
        return whole.assign_coords(concept=("prompt", concepts)).assign_attrs(dropped=list(reading.dropped))


def _dataset(
    after: Float[np.ndarray, "set draw mode item"],
    languages: Sequence[str],
    modes: Sequence[Mode],
    *,
    of: str,
) -> xr.Dataset:
    """The sets' own values, and those of their random sets."""
    return xr.Dataset(
        {
            "after": (("set", "mode", of), after[:, 0]),
            "null_after": (("set", "draw", "mode", of), after[:, 1:]),
        },
        coords={"set": list(languages), "mode": [mode.value for mode in modes]},
    )
