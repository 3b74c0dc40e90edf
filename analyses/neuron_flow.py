"""Where neurons lie, and where a language's neurons come from: layers, flow, origin; each against chance.

Chance is random sets that have as many neurons as the set has: anywhere, where the question is in which
layers they lie; in the same layers, where it is which other set they are from.

*Arrivals* are the target's neurons that were born after the first checkpoint. Each birth is a draw from the
neurons of its layer that the target did not have yet; that some of those were the pivot's makes the number of
arrivals from the pivot a sum of hypergeometric variables, one per layer and checkpoint (as in the log-rank
test). "Any neuron of the layer" is all that this chance knows. A score that only neurons of a kind can get,
such as those that fire often, makes sets share more than it says, whatever the languages do; a rule by which
a neuron cannot be in two sets at once makes sets of neighbouring checkpoints share less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Int

from babelscope.analyses.chance_overlap import UNRESOLVED, Chance
from babelscope.analyses.neuron_births import settled
from babelscope.analyses.neuron_identity import BEFORE, FIRST
from babelscope.core.stats import wilson_interval

STATES = ("pivot", "target", "both", "none")  # whose set a neuron is in
AT_START, EARLIER = "at the first checkpoint", "at any earlier checkpoint"
BOTTOM, MIDDLE, TOP, ENDS = "bottom", "middle", "top", "bottom and top"

Neurons = Bool[np.ndarray, "layer neuron"]


def layer_shares(members: xr.DataArray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shares of each set in every layer, and in thirds of the layers; as `NeuronLife` says."""
    layers = members.sizes["layer"]
    third = np.digitize((np.arange(layers) + 0.5) / layers, [1 / 3, 2 / 3])
    parts = {BOTTOM: third == 0, MIDDLE: third == 1, TOP: third == 2, ENDS: third != 1}
    single = {layer + 1: np.arange(layers) == layer for layer in range(layers)}
    return _shares(members, "layer", single), _shares(members, "part", parts)


def _shares(members: xr.DataArray, name: str, parts: dict[Any, Bool[np.ndarray, " layer"]]) -> pd.DataFrame:
    of_layer = members.sum("neuron").transpose("step", "language", "layer").to_numpy()
    per_layer, everywhere = members.sizes["neuron"], members.sizes["neuron"] * members.sizes["layer"]
    rows = []
    for at, step in enumerate(members["step"].to_numpy()):
        for number, language in enumerate(members["language"].to_numpy().tolist()):
            total = int(of_layer[at, number].sum())
            chance = {
                size: Chance.of(*(np.array([count]) for count in (everywhere, per_layer * size, total)))
                for size in {int(inside.sum()) for inside in parts.values()}
            }
            for part, inside in parts.items():
                count = int(of_layer[at, number, inside].sum())
                found = _beside(count, total, chance[int(inside.sum())])
                rows.append({"step": step, "language": language, name: part} | found)
    return pd.DataFrame(rows)


def _beside(count: int, total: int, chance: Chance) -> dict[str, Any]:
    """A share with its interval, what chance would give, and how the two compare."""
    low, high = wilson_interval(count, total)
    names = ("share", "chance", "chance_low", "chance_high")
    counts = (count, chance.mean, *chance.interval())
    shares = {name: value / total if total else np.nan for name, value in zip(names, counts, strict=True)}
    verdict = chance.verdict(count) if total else UNRESOLVED
    return {"count": count, "total": total, "low": low, "high": high, "verdict": verdict} | shares


def flow(members: xr.DataArray, *, pivot: str, target: str) -> pd.DataFrame:
    """Transitions between pivot only, target only, both and none; as `NeuronLife.flow_` says."""
    steps = members["step"].to_numpy()
    in_pivot, in_target = (members.sel(language=name).to_numpy() for name in (pivot, target))
    # By the order of STATES.
    states = np.stack(
        [in_pivot & ~in_target, in_target & ~in_pivot, in_pivot & in_target, ~(in_pivot | in_target)], axis=1
    )
    sizes = states.sum(-1)  # (step, state, layer)
    rows = []
    pairs = [(BEFORE, at, at - 1) for at in range(1, len(steps))]
    for compared, at, other in pairs + [(FIRST, at, 0) for at in range(1, len(steps))]:
        count = np.einsum("aln,bln->ab", states[other].astype(np.float32), states[at].astype(np.float32))
        expected = sizes[other] @ sizes[at].T / members.sizes["neuron"]
        rows += [
            (steps[at], compared, steps[other], was, now, round(float(count[a, b])), expected[a, b])
            for a, was in enumerate(STATES)
            for b, now in enumerate(STATES)
        ]
    return pd.DataFrame(rows, columns=["step", "compared", "other", "was", "is", "count", "expected"])


def origin(members: xr.DataArray, *, pivot: str, target: str) -> pd.DataFrame:
    """The target's neurons at each step that it did not have at the first; as `NeuronLife.origin_` says."""
    steps = members["step"].to_numpy()
    in_pivot, in_target = (members.sel(language=name).to_numpy() for name in (pivot, target))
    rows = []
    for at in range(1, len(steps)):
        for reference, marked in _references(in_pivot, at).items():
            strata = _strata(~in_target[0], marked, in_target[at])
            rows.append({"step": steps[at], "reference": reference} | _from_pivot([strata]))
    return pd.DataFrame(rows)


def arrivals(members: xr.DataArray, *, pivot: str, target: str) -> pd.DataFrame:
    """All neurons that the target got after the first checkpoint; as `NeuronLife.arrivals_` says."""
    in_pivot, in_target = (members.sel(language=name).to_numpy() for name in (pivot, target))
    stays = settled(in_target)
    had = np.cumsum(stays, axis=0) > 0  # born by then
    strata: dict[str, list[Int[np.ndarray, "4 layer"]]] = {AT_START: [], EARLIER: []}
    for at in range(1, len(stays)):
        for reference, marked in _references(in_pivot, at).items():
            strata[reference].append(_strata(~had[at - 1], marked, had[at]))
    return pd.DataFrame([{"reference": name} | _from_pivot(of) for name, of in strata.items()])


def _references(in_pivot: Bool[np.ndarray, "step layer neuron"], at: int) -> dict[str, Neurons]:
    return {AT_START: in_pivot[0], EARLIER: np.any(in_pivot[:at], axis=0)}


def _strata(available: Neurons, marked: Neurons, taken: Neurons) -> Int[np.ndarray, "4 layer"]:
    """By layer: neurons that can be taken, the marked among them, those taken, and the marked that were."""
    counts = (available, available & marked, available & taken, available & marked & taken)
    return np.stack([which.sum(-1) for which in counts])


def _from_pivot(strata: list[Int[np.ndarray, "4 layer"]]) -> dict[str, Any]:
    available, marked, taken, both = np.concatenate(strata, axis=1)
    return _beside(int(both.sum()), int(taken.sum()), Chance.of(available, marked, taken))
