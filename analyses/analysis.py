"""From results to conclusions: one object that figures draw, `--json` prints and the mix is made from.

Signals that may show stages are curves of solved problems, each with a verdict of its own:

    score               all problems asked in the target
    pivot knowledge     those whose answer only the pivot's text tells: what is transferred
    identifier choice   the last layer prefers the target's identifier to the pivot's, where one is due

A signal that a series lacks is left out with the reason; nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from babelscope.analyses import tables
from babelscope.analyses.best_mix import MixEvidence, gather, recommend_mix
from babelscope.analyses.comparison import ArmComparison
from babelscope.analyses.direction_effect import DirectionEffects
from babelscope.analyses.linear_probes import LanguageIdentity
from babelscope.analyses.mix import Recommendation
from babelscope.analyses.pivot_share import PivotShare, identifier_choice
from babelscope.analyses.proportion import LossProportion, WorkingLanguageProportion
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stage_signals import stage_votes
from babelscope.analyses.stage_votes import StageVotes
from babelscope.analyses.stages import StageDetector
from babelscope.analyses.sweep import Results
from babelscope.analyses.switch_layer import SwitchLayer
from babelscope.analyses.trend import LogLinear, disagreement
from babelscope.checkpoints.findings import Finding
from babelscope.core.errors import InputError
from babelscope.core.languages import shown

if TYPE_CHECKING:
    from babelscope.analyses.neuron_analysis import NeuronAnalysis
    from babelscope.analyses.questions import Questions

T = TypeVar("T")
TUNED = (
    "States are read with the tuned lens, which is trained to say what the last layer says: it may hide what"
    " a middle layer decodes to."
)
PIVOT_KNOWLEDGE = "pivot only"  # the group of problems that only the pivot's text answers


@dataclass(frozen=True)
class Analysis:
    """What one series shows.

    Attributes
    ----------
    name, pivot, target
        Of the series.
    findings
        What was left out, and why.
    history
        step, loss, learning_rate and whatever else the trainer logged; empty where it logged nothing.
    scores, losses, neurons
        As `tables` makes them; `scores` is None without problems.
    working
        Working language with its nulls.
    lens
        What it was read with: "logit" or "tuned".
    switch
        The layer at which decoding switches from pivot to target; None where only shares were measured.
    examples
        Lens tables of a few prompts, by step, where they were made.
    directions
        What changing the pivot−target direction does, where it was asked for.
    linear_probes
        Whether linear probes tell the language, where it was asked for.
    stages
        A fitted detector per signal.
    votes
        What every signal says of a transition, with a fit of its own.
    loss_proportion, language_proportion
        The pivot's share by both estimators, where they are defined.
    disagreement
        Their difference over steps, as the paper's authors tabulate it, or None.
    evidence
        What this series says about a mix, to be put together with others' by `recommend_mix`.
    recommendation
        Algorithm 1 from this series alone, or its refusal in words; None where it lacks something.
    comparison
        Arms trained on different mixes, where they were.
    notes
        What could not be concluded, and why, in sentences.
    further_neurons
        What more is known of neurons, where it was asked for.
    """

    name: str
    pivot: str
    target: str
    findings: tuple[Finding, ...]
    history: pd.DataFrame
    scores: pd.DataFrame | None
    losses: pd.DataFrame
    neurons: pd.DataFrame
    working: PivotShare
    lens: str
    switch: SwitchLayer | None
    examples: xr.Dataset | None
    directions: DirectionEffects | None
    linear_probes: LanguageIdentity | None
    stages: Mapping[str, StageDetector]
    votes: StageVotes
    loss_proportion: LossProportion | None
    language_proportion: WorkingLanguageProportion | None
    disagreement: pd.DataFrame | None
    evidence: MixEvidence
    recommendation: Recommendation | None
    comparison: ArmComparison | None
    notes: tuple[str, ...]
    further_neurons: NeuronAnalysis | None = None

    def with_comparison(self, comparison: ArmComparison) -> Analysis:
        """The same, with what the corrective runs showed."""
        return replace(self, comparison=comparison)

    def with_neurons(self, found: NeuronAnalysis) -> Analysis:
        """The same, with what more is known of neurons."""
        return replace(
            self,
            further_neurons=found,
            findings=tuple(dict.fromkeys((*self.findings, *found.findings))),
            notes=(*self.notes, *found.notes),
        )

    @property
    def cautions(self) -> list[str]:
        """What has to be known of the lens to read what was found with it; nothing of the logit lens."""
        return [TUNED] if self.lens == "tuned" else []

    @property
    def verdict(self) -> str:
        """The conclusion in a few sentences."""
        stages = [f"Stages by {signal}: {found.verdict_}" for signal, found in self.stages.items()]
        stages.append(self.votes.verdict_)
        mix = self.recommendation.verdict if self.recommendation else ""
        arms = self.comparison.verdict_ if self.comparison else ""
        found = (self.working, self.switch, self.directions, self.linear_probes)
        inside = [one.verdict_ for one in found if one is not None]
        inside += [self.further_neurons.verdict] if self.further_neurons else []
        return "\n".join(part for part in (*stages, *self.cautions, *inside, mix, arms) if part)

    def to_document(self) -> dict[str, Any]:
        """Everything, ready for JSON; what is not a number is null."""
        frames = {
            "history": self.history,
            "scores": self.scores,
            "losses": self.losses,
            "neurons": self.neurons,
            "working_language": self.working.table_,
            "working_language_by_layer": self.working.layers_,
            "proportion_by_loss": self.loss_proportion.to_frame() if self.loss_proportion else None,
            "proportion_by_working_language": self.language_proportion.to_frame()
            if self.language_proportion
            else None,
            "disagreement": self.disagreement,
            "switch_layer": self.switch.table_ if self.switch else None,
            "direction_effect": self.directions.table_ if self.directions else None,
            "language_identity": self.linear_probes.table_ if self.linear_probes else None,
        }
        if self.comparison:
            frames["arms"] = self.comparison.scores_
            frames["arm_differences"] = self.comparison.differences_
            frames["arm_differences_by_group"] = self.comparison.groups_
            frames["arm_scores_by_group"] = self.comparison.levels_
        return {
            "format": 1,
            "name": self.name,
            "pivot": self.pivot,
            "target": self.target,
            "lens": self.lens,
            "verdict": self.verdict,
            "stages": {signal: found.to_document() for signal, found in self.stages.items()},
            "votes": self.votes.to_document(),
            "recommendation": self.recommendation.model_dump(mode="json") if self.recommendation else None,
            "comparison": self.comparison.verdict_ if self.comparison else None,
            "neurons": self.further_neurons.to_document() if self.further_neurons else None,
            "tables": {name: tables.records(frame) for name, frame in frames.items() if frame is not None},
            "findings": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
        }


def analyse(results: Results, questions: Questions | None = None) -> Analysis:
    """Draw every conclusion that the results bear.

    Parameters
    ----------
    results
        Of `sweep`, for a series with pivot and target.
    questions
        Which problems choose the best checkpoint and how many tokens exist. Default: all problems, and what
        the run recorded; where neither says how many tokens exist, no mix is recommended.

    Raises
    ------
    InputError
        If pivot or target is not known, or part of the series is still to be measured.
    """
    series = results.series
    if results.owed:
        raise InputError(f"still to be measured by other shards: {', '.join(results.owed)}")
    if series.pivot is None or series.target is None:
        raise InputError(f"{series.directory} does not say its pivot and target; give both to Series.open")
    notes: list[str] = list(questions.notes) if questions else []
    working = PivotShare(results, pivot=series.pivot, target=series.target)
    soft = working.estimate("soft"), working.draws_["soft"]
    language_proportion = _or_note(
        lambda: WorkingLanguageProportion().fit(
            working.steps_, soft[0], draws=soft[1], concepts=working.concepts_
        ),
        "proportion by working language",
        notes,
    )
    loss_proportion = _or_note(lambda: _by_loss(results, working.target), "proportion by loss", notes)
    lines = [
        _or_note(lambda one=one: LogLinear().fit(one), f"log-linear fit by {name}", notes)
        for name, one in (("loss", loss_proportion), ("working language", language_proportion))
        if one is not None
    ]
    best_by = questions.best_by if questions else ()
    available = series.available_tokens | dict(questions.available if questions else {})
    curves = _curves(results, best_by, notes)
    stages = {signal: StageDetector().fit(curve) for signal, curve in curves.items()}
    evidence = gather(results, stages, loss_proportion, available=available, best_by=best_by, notes=notes)
    return Analysis(
        name=series.directory.name,
        pivot=series.pivot,
        target=series.target,
        findings=results.findings,
        history=pd.DataFrame(series.history),
        scores=tables.scores(results) if "problem_scores" in results else None,
        losses=tables.losses(results),
        neurons=tables.neurons(results),
        working=working,
        lens=str(results["working_language"].attrs["lens"]),
        switch=SwitchLayer(results, pivot=series.pivot, target=series.target)
        if "top" in results["working_language"]
        else None,
        examples=results.get("lens_table"),
        directions=DirectionEffects(results, pivot=series.pivot, target=series.target)
        if "direction_effect" in results
        else None,
        linear_probes=_or_note(lambda: LanguageIdentity(results), "linear probes", notes)
        if "language_identity" in results
        else None,
        stages=stages,
        votes=stage_votes(results, stages, working),
        loss_proportion=loss_proportion,
        language_proportion=language_proportion,
        disagreement=_disagreement(lines, series.steps),
        evidence=evidence,
        recommendation=_or_note(lambda: recommend_mix([evidence]), "mix", notes),
        comparison=None,
        notes=tuple(notes),
    )


def _by_loss(results: Results, target: str) -> LossProportion:
    nll, tokens, _ = tables.document_losses(results["language_loss"], target)
    steps = results["language_loss"]["step"].to_numpy()
    warmup = results.series.warmup_steps
    return LossProportion(warmup_steps=warmup).fit(steps, nll.T, tokens)


def _curves(results: Results, best_by: Sequence[str], notes: list[str]) -> dict[str, ScoreCurve]:
    """Solved problems per signal; those that cannot be fitted are noted."""
    pivot, target = str(results.series.pivot), str(results.series.target)
    found: dict[str, ScoreCurve | None] = {}
    if "problem_scores" in results:
        data = results["problem_scores"]
        groups = set(data["group"].to_numpy().tolist())

        def of(language: str, groups: Sequence[str] = ()) -> ScoreCurve:
            steps, _, solved = tables.outcomes(data, language, groups)
            return ScoreCurve.from_outcomes(steps, solved)

        found["score"] = _or_note(lambda: of(target), "stages by score", notes)
        if PIVOT_KNOWLEDGE in groups:
            found["pivot knowledge"] = _or_note(
                lambda: of(target, [PIVOT_KNOWLEDGE]), "stages by pivot knowledge", notes
            )
        steps, _, known = tables.outcomes(data, pivot, best_by)
        if len(known) and known[:, 0].mean() < 0.5:
            notes.append(
                f"At step {steps[0]} the model solves {known[:, 0].mean():.0%} of the problems in"
                f" {shown(pivot)}: it hardly knows what could be transferred."
            )
    else:
        notes.append(
            "No problems were asked, so there is no score; stages are those of the identifier choice."
        )
    steps, chosen = identifier_choice(results["working_language"], pivot=pivot, target=target)
    found["identifier choice"] = _or_note(
        lambda: ScoreCurve.from_outcomes(steps, chosen), "stages by identifier choice", notes
    )
    return {signal: curve for signal, curve in found.items() if curve is not None}


def _disagreement(lines: list[LogLinear | None], steps: list[int]) -> pd.DataFrame | None:
    if len(lines) < 2 or lines[0] is None or lines[1] is None:
        return None
    return disagreement(lines[0], lines[1], np.array([step for step in steps if step > 0], float))


def _or_note(make: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """What `make` gives, or None and the reason among the notes."""
    try:
        return make()
    except InputError as error:
        notes.append(f"No {what}: {error}.")
        return None
