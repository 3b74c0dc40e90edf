"""From series to a mix: what each series has to say, and one recommendation from all of them.

Algorithm 1 is given a score that must rise and fall, the mean of pivot and target score that chooses the best
checkpoint, the pivot's proportion by held-out loss, and how many tokens exist. A series that lacks one of
these says which; nothing stands in for it, least of all the target's score for the mean of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from babelscope.analyses import tables
from babelscope.analyses.algorithm_1 import TargetRun, mean_score
from babelscope.analyses.mix import Recommendation, recommend
from babelscope.analyses.mix_gain import MINIMUM_GAIN
from babelscope.analyses.nearest_mix import Limits
from babelscope.analyses.proportion import LossProportion
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector
from babelscope.analyses.sweep import Results
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.core.languages import shown

PROBLEM_SETS = {  # whose rise and fall Algorithm 1 needs, the first that there is
    "pivot knowledge": "the problems that only the pivot's text answers",
    "score": "all problems",
}
FEW_DRAWS = 99  # where only the best step is asked for, not its interval


def problem_set(groups: Sequence[str]) -> str:
    """Groups of problems in words."""
    return "problems of the groups " + " and ".join(map(repr, groups)) if groups else "all problems"


@dataclass(frozen=True)
class MixEvidence:
    """What one series says about a mix.

    Attributes
    ----------
    series, pivot, target
        Its name and languages.
    available
        Tokens that exist, where the series or its questions say so.
    run
        What Algorithm 1 is given, its `available_tokens` still to be settled; None where that is lacking.
    lacking
        What is lacking, in a sentence; empty where nothing is.
    """

    series: str
    pivot: str
    target: str
    available: Mapping[str, int]
    run: TargetRun | None
    lacking: str = ""


def recommend_mix(
    evidence: Sequence[MixEvidence],
    *,
    available: Mapping[str, int] | None = None,
    limits: Limits | None = None,
    present: Mapping[str, float] | None = None,
    minimum_gain: float = MINIMUM_GAIN,
) -> Recommendation:
    """One mix of the pivot and the targets of several series.

    `recommend_mix([php.evidence, csharp.evidence])`, of two analyses.

    Parameters
    ----------
    evidence
        One per series: `Analysis.evidence`.
    available
        Tokens that exist, instead of what the series say: see `tokens_that_exist`.
    limits, present, minimum_gain
        As for `recommend`.

    Raises
    ------
    InputError
        As for `tokens_that_exist` and `recommend`, and if a series lacks what Algorithm 1 needs.
    """
    counts = tokens_that_exist(evidence, available or {})
    if lacking := [f"{one.series}: {one.lacking}" for one in evidence if one.run is None]:
        raise InputError(" ".join(lacking))
    pivot = evidence[0].pivot
    runs = [replace(one.run, available_tokens=counts[one.target]) for one in evidence if one.run is not None]
    return recommend(
        runs,
        pivot=pivot,
        pivot_tokens=counts[pivot],
        limits=limits,
        present=present,
        minimum_gain=minimum_gain,
    )


def tokens_that_exist(evidence: Sequence[MixEvidence], available: Mapping[str, int]) -> dict[str, int]:
    """Tokens that exist of the pivot and of each target, in this order; no measurement is needed.

    Parameters
    ----------
    evidence
        One per series.
    available
        Counts that stand instead of what the series say.

    Raises
    ------
    InputError
        Without series; if they do not have one pivot and a target each; if `available` has another language;
        if the series do not agree on a count, or none says it.
    """
    if not evidence:
        raise InputError("no series is given; give one per target")
    if len({one.pivot for one in evidence}) > 1:
        told = ", ".join(f"{one.series}: {shown(one.pivot)}" for one in evidence)
        raise InputError(f"the series have different pivots ({told}); a mix is of one pivot and its targets")
    languages = [evidence[0].pivot, *(one.target for one in evidence)]
    if twice := [one for one in evidence if languages.count(one.target) > 1]:
        told = " and ".join(one.series for one in twice)
        raise InputError(f"{told} have the same target, {shown(twice[0].target)}; give one series per target")
    if strange := [name for name in available if name not in languages]:
        raise InputError(
            f"tokens are given for {strange[0]!r}, but the mix is of {', '.join(languages)}; leave that out"
        )
    counts = dict(available)
    for language in languages:
        said = [(one.series, one.available[language]) for one in evidence if language in one.available]
        if language in counts or not said:
            continue
        if len({count for _, count in said}) > 1:
            told = ", ".join(f"{series} {count:,}" for series, count in said)
            raise InputError(
                f"the series do not agree on how many tokens of {language} exist ({told});"
                f" give --available {language}=TOKENS"
            )
        counts[language] = said[0][1]
    if missing := [name for name in languages if name not in counts]:
        raise InputError(
            f"say how many tokens of {' and '.join(missing)} exist, as --available {missing[0]}=23e9"
        )
    return {name: counts[name] for name in languages}


def gather(
    results: Results,
    stages: Mapping[str, StageDetector],
    loss: LossProportion | None,
    *,
    available: Mapping[str, int],
    best_by: Sequence[str] = (),
    notes: list[str],
) -> MixEvidence:
    """What one series says about a mix.

    Parameters
    ----------
    results
        Of a series with pivot and target.
    stages
        Detectors by signal, as fitted to the target's scores.
    loss
        The pivot's proportion by held-out loss.
    available
        Tokens that exist, by language.
    best_by
        Groups of problems that choose the best checkpoint; all problems if empty.
    notes
        Is added to.
    """
    series = results.series
    pivot, target = str(series.pivot), str(series.target)
    about = {"series": series.directory.name, "pivot": pivot, "target": target, "available": dict(available)}
    if not series.run:
        notes.append("The run left no record; it is taken to continue from a model of the pivot.")
    rising = next((signal for signal in PROBLEM_SETS if signal in stages), None)
    if loss is None or rising is None:
        return MixEvidence(**about, run=None, lacking=_lacking(loss, rising))
    try:
        means = _means(results, best_by)
        chosen, *others = means
        mean = StageDetector().fit(means[chosen].since(loss.alpha_step_))
        other_best = _other_best({name: means[name] for name in others}, since=loss.alpha_step_)
    except InputError as error:
        lacking = f"Algorithm 1 needs the mean of both languages' scores since alpha: {error}."
        return MixEvidence(**about, run=None, lacking=lacking)
    notes += _costs(means[chosen], mean, target)
    run = TargetRun(
        language=target,
        loss=loss,
        target_score=stages[rising],
        mean_score=mean,
        available_tokens=available.get(target, 0),
        continues_from_pivot=series.continues_from_pivot,
        problem_set=PROBLEM_SETS[rising],
        best_by=chosen,
        other_best=other_best,
        origin=_origin(series, loss),
    )
    return MixEvidence(**about, run=run)


def _lacking(loss: LossProportion | None, rising: str | None) -> str:
    wanted = [
        *(["the pivot's proportion by held-out loss"] if loss is None else []),
        *(
            ["problems asked in both languages at every checkpoint, and their scores"]
            if rising is None
            else []
        ),
    ]
    return f"Algorithm 1 needs {' and '.join(wanted)}."


def _means(results: Results, best_by: Sequence[str]) -> dict[str, ScoreCurve]:
    """Means of pivot and target score: of the chosen problems first, then of others that could be chosen."""
    data = results["problem_scores"]
    pivot, target = str(results.series.pivot), str(results.series.target)

    def mean(groups: Sequence[str]) -> ScoreCurve:
        curves = []
        for language in (pivot, target):
            steps, _, solved = tables.outcomes(data, language, groups)
            if not len(solved):
                raise InputError(
                    f"of {problem_set(groups)}, none was asked in {shown(language)}; ask them in both"
                    " languages"
                )
            curves.append(ScoreCurve.from_outcomes(steps, solved))
        return mean_score(*curves)

    found = {problem_set(best_by): mean(best_by)}
    groups, languages = data["group"].to_numpy(), data["language"].to_numpy()
    in_both = sorted(set(groups[languages == pivot].tolist()) & set(groups[languages == target].tolist()))
    others = [(), *((group,) for group in in_both)] if len(set(groups)) > 1 else []
    return found | {problem_set(one): mean(one) for one in others if problem_set(one) not in found}


def _other_best(means: Mapping[str, ScoreCurve], *, since: int) -> dict[str, int]:
    fitted = {name: StageDetector(draws=FEW_DRAWS).fit(curve.since(since)) for name, curve in means.items()}
    return {name: found.best_step_ for name, found in fitted.items() if found.best_step_ is not None}


def _costs(score: ScoreCurve, since_alpha: StageDetector, target: str) -> list[str]:
    """A note where the mean of both languages was higher before the target was learnt."""
    if since_alpha.best_step_ is None:
        return []
    rates = score.solved / score.total
    first = int(rates.argmax())
    best = np.nanmax(since_alpha.fitted_)
    if rates[first] <= best or score.steps[first] >= since_alpha.best_step_:
        return []
    return [
        f"The mean of both languages' scores was higher at step {score.steps[first]:,} ({rates[first]:.0%})"
        f" than at step {since_alpha.best_step_:,} ({best:.0%}): {shown(target)} cost more than it gave."
    ]


def _origin(series: Series, loss: LossProportion) -> dict[str, Any]:
    """Which weights were measured, without saying where they are."""
    measured = set(loss.steps_.tolist())
    weights = [series.fingerprints.of(one.path) for one in series.checkpoints if one.step in measured]
    return {
        "series": series.directory.name,
        "checkpoints": len(measured),
        "steps": [int(loss.steps_[0]), int(loss.steps_[-1])],
        "weights": digest(weights),
    }
