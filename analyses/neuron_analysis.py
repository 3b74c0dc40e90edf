"""From scores to what can be said of a series' neurons: whose they are, whether they matter, how they live.

found = analyse_neurons(NeuronQuestions(series, questions))
found.verdict, found.life.table_, found.effects.specificity_, found.validity.table_
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from babelscope.analyses import tables
from babelscope.analyses.attention_neurons import attention_in_words, attention_neurons
from babelscope.analyses.neuron_births import lives
from babelscope.analyses.neuron_life import NeuronLife
from babelscope.analyses.neuron_questions import NeuronQuestions, RuleName
from babelscope.analyses.score_validity import ScoreValidity
from babelscope.analyses.set_effects import SetEffects
from babelscope.analyses.sweep import Results, sweep
from babelscope.checkpoints.findings import Finding
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.progress import progress
from babelscope.interp.neuron_scores import METHODS, scores
from babelscope.interp.selection import Rule, Selection


@dataclass(frozen=True)
class NeuronResults:
    """What was measured of a series' neurons.

    Attributes
    ----------
    scored
        Every score at every checkpoint.
    rule
        What makes sets of them; None while other shards owe scores.
    ablated, exact
        At some of the checkpoints; None where that was not asked for.
    """

    scored: Results
    rule: Rule | None
    ablated: Results | None
    exact: Results | None

    @property
    def owed(self) -> list[Results]:
        """Those of which other shards have yet to measure a part."""
        return [one for one in (self.scored, self.ablated, self.exact) if one is not None and one.owed]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Checkpoints that could not be measured, and why."""
        found = (one.findings for one in (self.scored, self.ablated, self.exact) if one is not None)
        return tuple(dict.fromkeys(finding for findings in found for finding in findings))


@dataclass(frozen=True)
class NeuronAnalysis:
    """What a series' neurons show.

    Attributes
    ----------
    asked
        By which score and rule; of which series.
    findings
        Checkpoints that were left out, and why.
    counts
        As `tables.neurons` makes it: the paper's count beside that at frozen thresholds.
    selected
        step, language, count, expected (by the same rule, blocks given to languages at random) and their
        ratio, the false-discovery rate.
    scores
        By the score that sets are made of: (step, language, layer, neuron).
    members
        The neurons of each language: bool (step, language, layer, neuron).
    attention
        Neurons of attention, as of `attention_neurons`; None where they were not asked for.
    life
        The selected neurons over training; None for fewer than two checkpoints.
    effects
        What ablating the sets does; None where that was not asked for.
    validity
        Each score against exact ablation; None where that was not asked for.
    notes
        What could not be concluded, and why.
    """

    asked: NeuronQuestions
    findings: tuple[Finding, ...]
    counts: pd.DataFrame
    selected: pd.DataFrame
    scores: xr.DataArray
    members: xr.DataArray
    attention: pd.DataFrame | None
    life: NeuronLife | None
    effects: SetEffects | None
    validity: ScoreValidity | None
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The conclusion in a few sentences."""
        said = [self.selected_in_words(), *self.effects_in_words()]
        said += self.validity.verdict_ if self.validity is not None else []
        said += [self.life.verdict_] if self.life is not None else []
        return "\n".join(said)

    def effects_in_words(self) -> list[str]:
        """What ablating the sets does to losses and to the choice; empty where that was not asked for."""
        if self.effects is None:
            return []
        return [said for said in (self.effects.verdict_, self.effects.choice_verdict_) if said is not None]

    def selected_in_words(self) -> str:
        """How many neurons of which language there are at the last checkpoint."""
        steps = self.selected["step"].to_numpy()
        last = self.selected.iloc[np.flatnonzero(steps == steps.max())]
        found = [
            f"{row['count']:,} of {shown(row['language'])}"
            + (f" ({row['false_discovery']:.0%} of them expected by chance)" if row["count"] else "")
            for row in last.to_dict("records")
        ]
        score = METHODS[self.asked.score].label.lower()
        by = f"by {score} and rule {self.asked.rule.value!r}"
        said = f"At step {steps.max():,}, {by}: {', '.join(found)}."
        if self.validity is not None and self.validity.unsupported(self.asked.score):
            said += " In some language exact ablation does not support the score itself: it is unsupported."
        if self.attention is None:
            return said
        about = attention_in_words(
            self.attention,
            step=int(steps.max()),
            languages=[self.asked.pivot, self.asked.target],
            level=self.asked.level,
        )
        return f"{said} {about}"

    @property
    def table(self) -> pd.DataFrame:
        """A row for every neuron that ever was settled as a language's, as `NeuronLife.table_`."""
        if self.life is not None:
            return self.life.table_
        return lives(self.members, self.scores, pivot=self.asked.pivot, halves=None)

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Every table, by name."""
        found = {"counts": self.counts, "selected": self.selected, "neurons": self.table}
        if self.attention is not None:
            found["attention"] = self.attention
        if self.life is not None:
            life = self.life
            found |= {"identity": life.identity_, "births_and_deaths": life.counts_}
            found |= {"layers": life.layers_, "flow": life.flow_, "origin": life.origin_}
        if self.effects is not None:
            found |= {"effects": self.effects.table_, "specificity": self.effects.specificity_}
        if self.validity is not None:
            found["validity"] = self.validity.table_
        return found

    def to_document(self) -> dict[str, Any]:
        """Everything, ready for JSON; what is not a number is null."""
        asked = self.asked
        return {
            "format": 1,
            "name": asked.series.directory.name,
            "pivot": asked.pivot,
            "target": asked.target,
            "score": asked.score.value,
            "rule": asked.rule.value,
            "level": asked.level,
            "most": asked.most,
            "verdict": self.verdict,
            "tables": {name: tables.records(frame) for name, frame in self.tables().items()},
            "findings": [{"step": f.step, "kind": f.kind, "detail": f.detail} for f in self.findings],
            "notes": list(self.notes),
        }


def measure_neurons(asked: NeuronQuestions, **how: Any) -> NeuronResults:
    """Measure what is missing; `how` is as for `sweep`, and so is what is raised.

    Where other shards owe what the rule takes from other models, nothing is ablated yet.
    """
    scored = sweep(asked.series, asked.scoring(), **how)
    if scored.owed and asked.rule is not RuleName.LAPE:
        return NeuronResults(scored, None, None, None)
    rule = asked.rule_of(scored)
    ablated, exact = (
        None if number == 0 else sweep(asked.some(number), measures, **how)
        for number, measures in ((asked.ablated, asked.ablating(rule)), (asked.exact, asked.exactly()))
    )
    return NeuronResults(scored, rule, ablated, exact)


def analyse_neurons(asked: NeuronQuestions, found: NeuronResults) -> NeuronAnalysis:
    """Draw every conclusion that the results bear.

    Raises
    ------
    InputError
        If part of the series is still to be measured, or nothing can be selected on so little text.
    """
    if found.owed or found.rule is None:
        raise InputError(f"still to be measured by other shards: {', '.join(found.owed[0].owed)}")
    notes: list[str] = []
    data, name = found.scored[asked.score], str(asked.score)
    steps = data["step"].to_numpy()
    selections = _selections(found.rule, data, "selecting neurons")
    members, scored = _over_steps(selections, steps), scores(data, name)
    life = None
    if len(steps) > 1:
        life = NeuronLife(
            members,
            scored,
            pivot=asked.pivot,
            target=asked.target,
            halves=_halves(found.rule, data, notes),
        )
    else:
        notes.append(
            "One checkpoint has no training to follow: nothing is said of births, deaths and origin."
        )
    return NeuronAnalysis(
        asked=asked,
        findings=found.findings,
        counts=tables.neurons(found.scored),
        selected=_selected(selections, steps),
        scores=scored,
        members=members,
        attention=attention_neurons(found.scored, level=asked.level) if asked.attention else None,
        life=life,
        effects=SetEffects(found.ablated, pivot=asked.pivot, target=asked.target) if found.ablated else None,
        validity=_validity(found, asked.target),
        notes=tuple(notes),
    )


def _validity(found: NeuronResults, target: str) -> ScoreValidity | None:
    if found.exact is None:
        return None
    return ScoreValidity(found.exact, target=target)


def _selections(rule: Rule, data: xr.Dataset, what: str) -> list[Selection]:
    """What the rule selects at every step."""
    with progress() as display:
        steps = display.track(data["step"].to_numpy().tolist(), description=what)
        return [rule(data.sel(step=step)) for step in steps]


def _over_steps(selections: list[Selection], steps: np.ndarray) -> xr.DataArray:
    return xr.concat([one.members for one in selections], dim=xr.IndexVariable("step", steps))


def _halves(rule: Rule, data: xr.Dataset, notes: list[str]) -> xr.DataArray | None:
    """Members by each half of the text alone: every other block, of those that hold every language."""
    steps = data["step"].to_numpy()
    read = np.flatnonzero((data["tokens"] > 0).all(("step", "language")))
    try:
        if len(read) < 2:
            raise InputError("it is one block; give more text")
        halves = [
            _over_steps(_selections(rule, data.isel(block=read[half::2]), f"half {half + 1}"), steps)
            for half in (0, 1)
        ]
    except InputError as error:
        notes.append(f"No halves of the text to hold sets against: {error}.")
        return None
    return xr.concat(halves, dim="half")


def _selected(selections: list[Selection], steps: np.ndarray) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "step": step,
                "language": one.members["language"].to_numpy(),
                "count": one.count.to_numpy(),
                "expected": one.null_count.mean("draw").to_numpy(),
                "false_discovery": one.false_discovery.to_numpy(),
            }
        )
        for step, one in zip(steps, selections, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)
