"""What Algorithm 1 is given: which score must rise and fall, which mean chooses the best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from babelscope.analyses.mix import Recommendation, TargetRun, recommend
from babelscope.analyses.proportion import LossProportion
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.core.languages import shown

MEAN = "mean of pivot and target"
PROBLEM_SETS = {  # whose rise and fall Algorithm 1 needs
    "pivot knowledge": "the problems that only the pivot's text answers",
    "score": "all problems",
    "identifier choice": "the identifiers chosen",
}


def problem_set(groups: Sequence[str]) -> str:
    """Groups of problems in words."""
    return "problems of the groups " + " and ".join(map(repr, groups)) if groups else "all problems"


def recommended(
    series: Series,
    curves: Mapping[str, ScoreCurve],
    stages: Mapping[str, StageDetector],
    loss: LossProportion | None,
    available: Mapping[str, int],
    best_by: str,
    notes: list[str],
) -> Recommendation | None:
    """Algorithm 1 for one series, or None with the reason among the notes.

    Parameters
    ----------
    series
        With pivot and target.
    curves, stages
        Scores by signal, `MEAN` among the curves where problems were asked, and the detectors fitted to them.
    loss
        The pivot's proportion by held-out loss.
    available
        Tokens that exist of each language.
    best_by
        What `MEAN` is the mean of, in words.
    notes
        Is added to.
    """
    if not series.run:
        notes.append("The run left no record; it is taken to continue from a model of the pivot.")
    pivot, target = str(series.pivot), str(series.target)
    lacking = [name for name in (pivot, target) if name not in available]
    if lacking:
        notes.append(f"No mix: say how many tokens of {' and '.join(lacking)} exist.")
        return None
    if loss is None or not stages:
        notes.append("No mix: Algorithm 1 needs the proportion by loss and a score with stages.")
        return None
    rising = next(signal for signal in ("pivot knowledge", "score", "identifier choice") if signal in stages)
    mean = stages[rising]
    if MEAN in curves:
        try:
            mean = StageDetector().fit(curves[MEAN].since(loss.alpha_step_))
        except InputError as error:
            notes.append(f"No mix, for lack of scores since alpha: {error}.")
            return None
        notes += _costs(curves[MEAN], mean, target)
    run = TargetRun(
        language=target,
        loss=loss,
        target_score=stages[rising],
        mean_score=mean,
        available_tokens=available[target],
        continues_from_pivot=series.continues_from_pivot,
        problem_set=PROBLEM_SETS[rising],
        best_by=best_by if MEAN in curves else PROBLEM_SETS[rising],
    )
    return recommend([run], pivot=pivot, pivot_tokens=available[pivot])


def _costs(score: ScoreCurve, since_alpha: StageDetector, target: str) -> list[str]:
    """A note where the mean of both languages was higher before the target was learnt."""
    rates = score.solved / score.total
    first = int(rates.argmax())
    best = np.nanmax(since_alpha.fitted_)
    if rates[first] <= best or score.steps[first] >= since_alpha.best_step_:
        return []
    return [
        f"The mean of both languages' scores was higher at step {score.steps[first]:,} ({rates[first]:.0%})"
        f" than at step {since_alpha.best_step_:,} ({best:.0%}): {shown(target)} cost more than it gave."
    ]
