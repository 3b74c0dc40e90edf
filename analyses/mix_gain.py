"""What a mix would gain over the present one, by Algorithm 1's own logic.

A mix gives pivot and target a share of their system each (Eq. 3 of arXiv 2412.07298, for a pair):

    P = w_pivot / (w_pivot + w_target)

and the acquisition run passed through that share on its way from 1 to 0: the mean score of the checkpoint
where P(l) first fell to it is what the mix is predicted to reach. The gain is the score predicted for the
recommended mix minus the one for the present mix, on average over the targets. Its interval carries the
documents behind P and the noise of the fitted scores. Both shares are the same in every draw: a draw's own
best would beat any other share by construction.

This is a prediction from one acquisition run per target, which no mix was trained for. `comparison.py` tests
it. A share that the run did not pass through while it was scored has no prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from babelscope.analyses.algorithm_1 import TargetRun
from babelscope.analyses.amounts import listed
from babelscope.core.config import Strict
from babelscope.core.languages import shown
from babelscope.core.stats import LEVEL, percentile_interval
from babelscope.corpora.mix import WEIGHT_TOLERANCE, Decision

MINIMUM_GAIN = 0.01  # of the mean score: one point in a hundred
CAVEAT = (
    "This is predicted from one acquisition run per target, not tested: only runs on both mixes compare them"
)


class PredictedScore(Strict):
    """Where a mix stands on one target's acquisition run.

    Attributes
    ----------
    proportion
        P that the mix implies, pivot against this target.
    step
        Where the run first fell to it; the median of the draws.
    score
        The fitted mean of both scores there.
    """

    proportion: float
    step: int
    score: float


class TargetGain(Strict):
    """The predicted gain on one target's mean score, with its interval."""

    present: PredictedScore
    recommended: PredictedScore
    gain: float
    interval: tuple[float, float]


class MixGain(Strict):
    """The recommended mix against the present one.

    Attributes
    ----------
    present
        Weights of the present mix.
    natural
        Whether that is in proportion to what exists, for want of an answer.
    minimum
        The gain worth having, stated beforehand.
    decision
        "change" where all of the interval is at least the minimum, or where the present mix does not keep to
        the limits; else "keep", also where the present weights lie inside the recommended intervals, and "not
        resolvable" where there is no prediction.
    gain, interval
        Mean over the targets; None where there is no prediction.
    targets
        The same for each target.
    verdict
        In a few sentences.
    """

    present: dict[str, float]
    natural: bool
    minimum: float
    decision: Decision
    gain: float | None
    interval: tuple[float, float] | None
    targets: dict[str, TargetGain]
    verdict: str


def predicted_gain(
    runs: Sequence[TargetRun],
    *,
    pivot: str,
    recommended: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    present: Mapping[str, float],
    natural: bool = False,
    broken: Sequence[str] = (),
    minimum: float = MINIMUM_GAIN,
) -> MixGain:
    """Compare two mixes on the runs that the recommended one was read from.

    Parameters
    ----------
    runs
        One per target.
    recommended, intervals
        Weights and the intervals of these, by language.
    present
        Weights of the present mix, of the same languages.
    natural
        Whether `present` is only what exists.
    broken
        The limits that the present mix does not keep to, in words.
    minimum
        The gain worth having.
    """
    about = {"present": dict(present), "natural": natural, "minimum": minimum}
    yours = f"the natural mix, taken for yours: {listed(present)}" if natural else listed(present)
    change = f"Change your mix ({yours}) to {listed(recommended)}"
    if broken:
        change += f", since yours does not keep to the limits ({'; '.join(broken)})"
    outside = [
        why
        for run in runs
        for mix, weights in (("present", present), ("recommended", recommended))
        if (why := _outside(run, _proportion(weights, pivot, run.language), mix, pivot))
    ]
    if outside:
        none = {"gain": None, "interval": None, "targets": {}}
        first = f"{change}." if broken else "Whether to leave your mix is not resolvable."
        decision: Decision = "change" if broken else "not resolvable"
        return MixGain(**about, **none, decision=decision, verdict=" ".join([first, *outside]))
    draws, targets = [], {}
    for run in runs:
        (before, scores), (after, higher) = (
            _predicted(run, _proportion(weights, pivot, run.language)) for weights in (present, recommended)
        )
        gain = higher - scores
        low, high = percentile_interval(gain)
        targets[run.language] = TargetGain(
            present=before,
            recommended=after,
            gain=float(np.nanmean(gain)),
            interval=(float(low), float(high)),
        )
        draws.append(gain)
    shortest = min(map(len, draws))
    mean = np.mean([gain[:shortest] for gain in draws], axis=0)
    low, high = map(float, percentile_interval(mean))
    found = {"gain": float(np.nanmean(mean)), "interval": (low, high), "targets": targets}
    same = all(abs(present[name] - weight) <= WEIGHT_TOLERANCE for name, weight in recommended.items())
    inside = all(low <= present[name] <= high for name, (low, high) in intervals.items())
    decision = "change" if broken or not (same or inside or low < minimum) else "keep"
    said = f"{found['gain']:+.3f} ({LEVEL:.0%} interval {low:+.3f} to {high:+.3f})"
    if same:
        reason = "it is the recommended one"
    elif inside:
        reason = (
            f"its weights lie inside the recommended intervals; the predicted gain in mean score is {said}"
        )
    elif high < minimum:
        reason = (
            f"the predicted gain in mean score, {said}, is less than the {minimum:g} that is worth having"
        )
    else:
        reason = (
            f"the predicted gain in mean score, {said}, may be less than the {minimum:g} that is worth"
            " having; more problems or checkpoints would narrow it"
        )
    if broken:
        verdict = f"{change}: the predicted gain in mean score is {said}."
    elif decision == "keep":
        verdict = f"Keep your mix ({yours}): no meaningful gain, since {reason}."
    else:
        verdict = (
            f"{change}: the predicted gain in mean score is {said}, at least the {minimum:g} that is worth"
            " having."
        )
    return MixGain(**about, **found, decision=decision, verdict=f"{verdict} {CAVEAT}.")


def _proportion(weights: Mapping[str, float], pivot: str, target: str) -> float:
    """Eq. 3 for two languages; NaN where the mix has neither."""
    both = weights[pivot] + weights[target]
    return weights[pivot] / both if both > 0 else np.nan


def _outside(run: TargetRun, proportion: float, mix: str, pivot: str) -> str | None:
    """Why a share has no prediction; None where the run passed through it."""
    name, pivot = shown(run.language), shown(pivot)
    if np.isnan(proportion):
        return f"The {mix} mix has neither {pivot} nor {name}."
    passed = [run.loss.at(step) for step in _scored(run)]
    low, high = min(passed), max(passed)
    if low <= proportion <= high:
        return None
    return (
        f"The {mix} mix has P = {proportion:.3f} of {pivot} against {name}, but where the run was scored P"
        f" went from {high:.3f} to {low:.3f}; nothing is predicted beyond."
    )


def _predicted(run: TargetRun, proportion: float) -> tuple[PredictedScore, Float[np.ndarray, " draws"]]:
    """Where a share was passed, and draws of the score there; NaN in draws in which P is not defined."""
    x = np.log10(_scored(run))
    scores = run.mean_score.peaked_draws_  # (draws, steps)
    trained = run.loss.steps_ > 0
    known, losses = np.log10(run.loss.steps_[trained]), run.loss.draws_[:, trained]
    shares = np.array([np.interp(x, known, losses[row % len(losses)]) for row in range(len(scores))])
    at = first_passage(x, shares, proportion)
    drawn = np.array([np.interp(place, x, row) for place, row in zip(at, scores, strict=True)])
    step = round(10 ** float(np.nanmedian(at)))
    return PredictedScore(proportion=proportion, step=step, score=float(np.nanmean(drawn))), drawn


def first_passage(
    x: Float[np.ndarray, " steps"], shares: Float[np.ndarray, "draws steps"], level: float
) -> Float[np.ndarray, " draws"]:
    """Where each curve first falls to a level, linear between its points.

    Its last point where it never does, its first where it begins below, NaN where it is not defined.
    """
    passed = shares <= level
    after = np.where(passed.any(1), passed.argmax(1), len(x) - 1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(shares))
    above, below = shares[rows, before], shares[rows, after]
    fall = above - below
    part = np.clip(np.divide(above - level, fall, out=np.ones_like(fall), where=fall > 0), 0, 1)
    at = x[before] + part * (x[after] - x[before])
    return np.where(np.isnan(shares).any(1), np.nan, at)


def _scored(run: TargetRun) -> Float[np.ndarray, " steps"]:
    """Steps of the fitted scores."""
    steps = run.mean_score.curve_.steps
    return steps[steps > 0].astype(float)
