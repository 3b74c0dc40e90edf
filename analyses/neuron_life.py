"""What becomes of languages' neurons in training: are they the same, when do they come and go, from where.

One object for whatever rule selected them. What sets show is compared with random sets of the same size
(`chance_overlap`) and with the sets' own reliability between two halves of the text (`neuron_identity`);
lives are counted by a rule that one checkpoint's noise does not break (`neuron_births`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from babelscope.analyses.neuron_births import flicker, lives, turnover
from babelscope.analyses.neuron_flow import AT_START, EARLIER, ENDS, arrivals, flow, layer_shares, origin
from babelscope.analyses.neuron_identity import BEFORE, LAST, identity
from babelscope.core.errors import InputError
from babelscope.core.languages import shown

DIMS = ("step", "language", "layer", "neuron")


class NeuronLife:
    """The neurons of each language over training.

    Parameters
    ----------
    members
        Whether a neuron is a language's: bool (step, language, layer, neuron), with coordinates step and
        language.
    scores
        What it was selected by, of the same shape; NaN where it has none.
    pivot, target
        Two of the languages.
    halves
        Members by the same rule from each half of the text: bool (half, step, language, layer, neuron).

    Attributes
    ----------
    table_ : DataFrame
        A row per language and neuron that was ever born: language, layer (from 1), neuron, `born` (first step
        at which it is settled: a member at two checkpoints in a row, or at the last), `died` (the step after
        the last such, NaN where there is none), `from_start` (it was there at the first step, so that its
        birth is not known), `present` (checkpoints as a member from birth to death) and `share_present` of
        them, `best` (step of its highest score), score_first, score_best, score_last, `was_pivot_at_start`,
        `was_pivot_before` (in the pivot's set at any step before its birth); with halves `both_halves`: each
        half of the text alone also finds it settled at some step.
    counts_ : DataFrame
        step, language, members, settled, births, deaths (both NaN at the first step).
    flicker_ : DataFrame
        language, ever (neurons that were a member at any step), passing (never settled), their share, low,
        high (Wilson), and the share by chance if each layer's members were drawn anew at every step.
    identity_ : DataFrame
        step, language, compared ("before", "first", "last"), other (its step); shared, union, jaccard, low,
        high, chance, chance_low, chance_high (95% of random sets) and `outside_null`, NaN where either set is
        empty; across, across_low, across_high, ceiling, lost, lost_low, lost_high (likewise, of halves);
        rank, rank_low, rank_high, rank_chance, rank_chance_low, rank_chance_high.
    layers_, parts_ : DataFrame
        step, language, layer (from 1), or part of the layers ("bottom", "middle", "top" third, "bottom and
        top"); count of total members there, share, low, high (Wilson), chance, chance_low, chance_high (95%
        of random sets of this size) and verdict: "more than chance", "less than chance", "not resolvable".
    flow_ : DataFrame
        step, compared ("before", "first"), other, was, is ("pivot" only, "target" only, "both", "none"),
        count, and expected of random sets with these sizes in every layer.
    origin_ : DataFrame
        step, reference ("at the first checkpoint", "at any earlier checkpoint"): how many (count) of the
        target's members that it did not have at the first step (total) were the pivot's then; share and
        verdict as above, chance within layers.
    arrivals_ : DataFrame
        The same for all neurons of the target born after the first step, taken together; "earlier" is before
        its birth.
    sentences_ : dict of str
        What is to be said of "births", "identity", "layers" and "origin"; empty where there is nothing.
    verdict_ : str
        All of them.

    Raises
    ------
    InputError
        If there are fewer than two checkpoints, or pivot or target is not among the languages.
    """

    def __init__(
        self,
        members: xr.DataArray,
        scores: xr.DataArray,
        *,
        pivot: str,
        target: str,
        halves: xr.DataArray | None = None,
    ):
        languages = members["language"].to_numpy().tolist()
        if members.sizes["step"] < 2:
            raise InputError(
                f"neurons over training need two checkpoints at least; got {members.sizes['step']}"
            )
        if missing := [name for name in (pivot, target) if name not in languages]:
            raise InputError(f"no neurons were selected for {missing[0]!r}; the languages are {languages}")
        members, scores = (data.transpose(*DIMS).sortby("step") for data in (members, scores))
        halves = None if halves is None else halves.transpose("half", *DIMS).sortby("step")
        self.pivot, self.target = pivot, target
        self.table_ = lives(members, scores, pivot=pivot, halves=halves)
        self.counts_ = turnover(members, self.table_)
        self.flicker_ = flicker(members)
        self.identity_ = identity(members, scores, halves)
        self.layers_, self.parts_ = layer_shares(members)
        self.flow_ = flow(members, pivot=pivot, target=target)
        self.origin_ = origin(members, pivot=pivot, target=target)
        self.arrivals_ = arrivals(members, pivot=pivot, target=target)
        self.sentences_ = {
            "births": self._lives_in_words(),
            "identity": self._identity_in_words(),
            "layers": self._layers_in_words(),
            "origin": self._origin_in_words(),
        }
        self.verdict_ = " ".join(said for said in self.sentences_.values() if said)

    def _lives_in_words(self) -> str:
        mine, name = _of(self.table_, language=self.target), shown(self.target)
        later = mine.loc[~mine["from_start"]]
        first, *_, last = _of(self.counts_, language=self.target).to_dict("records")
        sentence = (
            f"{name} has {first['members']} neurons at step {first['step']:,} and {last['members']} at step"
            f" {last['step']:,}; {len(later)} were born after the first checkpoint and"
            f" {mine['died'].notna().sum()} died."
        )
        (one,) = _of(self.flicker_, language=self.target).to_dict("records")
        if not one["ever"]:
            return sentence
        return (
            f"{sentence} Of the {one['ever']} ever selected {one['share']:.0%} ({one['low']:.0%} to"
            f" {one['high']:.0%}) never are at two checkpoints in a row; were sets drawn anew each time,"
            f" {one['chance']:.0%} would not be."
        )

    def _identity_in_words(self) -> str:
        name = shown(self.target)
        ends = _of(self.identity_, language=self.target, compared=LAST).iloc[0]
        beside = _of(self.identity_, language=self.target, compared=BEFORE)
        known = beside.dropna(subset="jaccard")
        if known.empty:
            return (
                f"No two checkpoints in a row have neurons of {name}, so nothing is known of their identity."
            )
        reliable = (
            f"; at {(known['lost_low'] > 0).sum()} they differ by more than the halves of the text do"
            if not np.isnan(known["lost"].to_numpy()).all()
            else ""
        )
        sentence = (
            f"From one checkpoint to the next its sets overlap more than random ones at"
            f" {(known['outside_null'] & (known['jaccard'] > known['chance'])).sum()} of {len(known)} steps"
            f" (median Jaccard {known['jaccard'].median():.0%}){reliable}."
        )
        if ends[["jaccard"]].isna().any():
            return f"{sentence} First and last checkpoint cannot be compared: one has no neurons of {name}."
        return (
            f"{sentence} Those of the first and the last checkpoint share {ends['shared']} of {ends['union']}"
            f" neurons (Jaccard {_share(ends, 'jaccard')}; random sets {ends['chance_low']:.0%} to"
            f" {ends['chance_high']:.0%})."
        )

    def _layers_in_words(self) -> str:
        rows = _of(self.parts_, language=self.target, part=ENDS).iloc[[0, -1]].to_dict("records")
        found = [
            f"{_share(row, 'share')} at step {row['step']:,} (chance {row['chance_low']:.0%} to"
            f" {row['chance_high']:.0%}: {row['verdict']})"
            for row in rows
            if row["total"]
        ]
        if not found:
            return ""
        return f"In the bottom and top thirds of the layers lie {' and '.join(found)}."

    def _origin_in_words(self) -> str:
        rows = self.arrivals_.set_index("reference")
        pivot, target = shown(self.pivot), shown(self.target)
        if not rows.loc[AT_START, "total"]:
            return (
                f"No neuron of {target} was born after the first checkpoint, so none can come from {pivot}."
            )
        found = [
            f"{row['count']} were {pivot}'s {reference} ({_share(row, 'share')}; chance"
            f" {row['chance_low']:.0%} to {row['chance_high']:.0%}: {row['verdict']})"
            for reference, row in ((name, rows.loc[name]) for name in (AT_START, EARLIER))
        ]
        return f"Of the {rows.loc[AT_START, 'total']} born after the first checkpoint, {' and '.join(found)}."


def _of(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for name, value in values.items():
        table = table.loc[table[name] == value]
    return table.reset_index(drop=True)


def _share(row: pd.Series | dict, name: str) -> str:
    return f"{row[name]:.0%}, {row['low']:.0%} to {row['high']:.0%}"
