"""Algorithm 1 of "The Rise and Down of Babel Tower" (arXiv 2412.07298): how much of each new language.

    j          = argmax over checkpoints from α on of the fitted mean of pivot and target score
    η_target   = η_pivot / P(l_j) − η_pivot        P as in `proportion.py`, η in unique tokens
    Pbar(η_i)  = η_i / Σ_k η_k                     (Eq. 3) sampling weights; with one target, P and 1 − P

Before α the loss is that of a vocabulary not learnt yet, and P > 1: such checkpoints do not compete for j.
Each target is computed against the pivot by itself, from its own acquisition run, as in the paper. The
pivot's corpus is kept whole; a target cannot have more than exists. As P → 0, η_target grows without bound,
so its interval carries both the documents behind P and the uncertainty of the best checkpoint.

The algorithm reads how a pivot's system gives way to a new one. It says nothing about a run that does not
continue from a pivot model, or whose score does not demonstrably rise and then fall: the recommendation is
refused in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from babelscope.analyses.proportion import CAVEAT, LossProportion
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector
from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.stats import LEVEL, percentile_interval
from babelscope.corpora.mix import LanguageShare, Mix


@dataclass(frozen=True)
class TargetRun:
    """What one acquisition run says about one target.

    Parameters
    ----------
    language
        The target.
    loss
        Fitted on held-out text of the target.
    target_score
        Fitted on the target's score: must rise and fall.
    mean_score
        Fitted on `mean_score(pivot, target)` from α on: its peak is the best checkpoint.
    available_tokens
        Tokens of the target that exist.
    continues_from_pivot
        Whether the run started from a model of the pivot.
    problem_set
        What must rise and fall, in words.
    best_by
        What the mean score is of, in words.
    """

    language: str
    loss: LossProportion
    target_score: StageDetector
    mean_score: StageDetector
    available_tokens: int
    continues_from_pivot: bool
    problem_set: str = "all problems"
    best_by: str = "all problems"


class TargetEstimate(Strict):
    """Algorithm 1 for one target.

    Attributes
    ----------
    best_step, best_interval
        The best checkpoint j.
    proportion, proportion_interval, proportion_band
        P at j; its interval carries the documents and j, its band the choice of α and the length of the run.
    tokens, tokens_interval, tokens_band
        η_target in the same three senses, at most `available_tokens`.
    influence
        Lowest and highest η_target when one input moves and the others stay: "alpha" and "beta" over the
        band's choices, "best step" over its interval.
    most_influential
        The input with the widest of these; None if none moves η_target.
    """

    best_step: int
    best_interval: tuple[int, int]
    proportion: float
    proportion_interval: tuple[float, float]
    proportion_band: tuple[float, float]
    tokens: int
    tokens_interval: tuple[int, int]
    tokens_band: tuple[int, int]
    available_tokens: int
    influence: dict[str, tuple[int, int]]
    most_influential: str | None


class Recommendation(Strict):
    """A mix, or the reasons why there is none.

    Attributes
    ----------
    verdict
        One paragraph for a reader.
    mix
        None when refused.
    reasons
        Why it was refused; with a mix, what it was limited by.
    targets
        The estimates behind it, by target; empty when refused.
    """

    verdict: str
    mix: Mix | None
    reasons: tuple[str, ...]
    targets: dict[str, TargetEstimate]


def mean_score(pivot: ScoreCurve, target: ScoreCurve) -> ScoreCurve:
    """Mean of two scores at every step, each language counting half whatever its number of problems.

    With equally many problems, known one by one, what they share between checkpoints is kept. Otherwise the
    mean is a count out of the number of problems that gives it its binomial precision, 4 / (1/n_1 + 1/n_2).

    Raises
    ------
    InputError
        If the two were not scored at the same steps.
    """
    if not np.array_equal(pivot.steps, target.steps):
        only = sorted(set(pivot.steps.tolist()) ^ set(target.steps.tolist()))
        raise InputError(f"pivot and target were not both scored at steps {only}; score both at every step")
    both = (pivot.outcomes, target.outcomes)
    if both[0] is not None and both[1] is not None and len(both[0]) == len(both[1]):
        return ScoreCurve.from_outcomes(pivot.steps, np.vstack([both[0], both[1]]))
    total = np.round(4 / (1 / pivot.total + 1 / target.total))
    share = (pivot.solved / pivot.total + target.solved / target.total) / 2
    return ScoreCurve.from_counts(pivot.steps, np.round(share * total), total)


def target_tokens(
    pivot_tokens: float, proportion: Float[np.ndarray, "*shape"] | float, *, available: float
) -> Float[np.ndarray, "*shape"]:
    """η_pivot / P − η_pivot, between 0 (P ≥ 1) and what is available (P → 0)."""
    share = np.asarray(proportion, float)
    # Where P is at or below the share that the available tokens would have, the limit is what exists.
    least = pivot_tokens / (pivot_tokens + available)
    return np.where(share <= least, available, pivot_tokens / np.clip(share, least, 1) - pivot_tokens)


def algorithm_1(run: TargetRun, *, pivot_tokens: int) -> TargetEstimate:
    """η_target for one target, with everything that makes it uncertain.

    It computes; whether the answer means anything is `recommend`'s to say.

    Raises
    ------
    InputError
        If scores were taken after the last held-out loss.
    """
    loss, step = run.loss, run.mean_score.best_step_
    scored, measured = int(run.mean_score.curve_.steps[-1]), int(loss.steps_[-1])
    if scored > measured:
        raise InputError(
            f"{run.language} is scored up to step {scored}, but its held-out loss ends at step {measured};"
            " measure both on the same checkpoints"
        )

    def tokens(proportion: Float[np.ndarray, "*shape"] | float) -> Float[np.ndarray, "*shape"]:
        return target_tokens(pivot_tokens, proportion, available=run.available_tokens)

    shares = loss.draws_at(run.mean_score.best_draws_)
    variants = loss.variants_at(step).dropna(subset="proportion")
    under = variants["proportion"].to_numpy()
    moved = {
        "alpha": under[variants["last_step"] == variants["last_step"].max()],
        "beta": under[variants["alpha_step"] == loss.alpha_step_],
        "best step": np.array([loss.at(end) for end in run.mean_score.best_interval_]),
    }
    influence = {name: _ends(tokens(shares)) for name, shares in moved.items()}
    width = {name: high - low for name, (low, high) in influence.items()}
    widest = max(width, key=width.__getitem__)
    low, high = percentile_interval(shares)
    return TargetEstimate(
        best_step=step,
        best_interval=run.mean_score.best_interval_,
        proportion=loss.at(step),
        proportion_interval=(float(low), float(high)),
        proportion_band=(float(under.min()), float(under.max())),
        tokens=round(float(tokens(loss.at(step)))),
        tokens_interval=_ends(percentile_interval(tokens(shares))),
        tokens_band=_ends(tokens(under)),
        available_tokens=run.available_tokens,
        influence=influence,
        most_influential=widest if width[widest] > 0 else None,
    )


def recommend(runs: Sequence[TargetRun], *, pivot: str, pivot_tokens: int) -> Recommendation:
    """Unique tokens and sampling weights for the pivot and its targets, or a refusal in words.

    Parameters
    ----------
    runs
        One acquisition run per target.
    pivot, pivot_tokens
        The language that the targets are learnt from, and η_pivot: its corpus, kept whole.

    Returns
    -------
    Recommendation
        Without a mix if any target's run breaks a precondition: a mix that leaves out a language that was
        asked for is another mix. The reasons name the target.

    Raises
    ------
    InputError
        Without targets, with one target twice, or with token counts below 1.
    """
    names = [run.language for run in runs]
    if not names or len({pivot, *names}) <= len(names):
        raise InputError(
            f"targets {names} of pivot {pivot!r}; give at least one, each once, and not the pivot"
        )
    counts = {pivot: pivot_tokens, **{run.language: run.available_tokens for run in runs}}
    if missing := [name for name, count in counts.items() if not count >= 1]:
        raise InputError(f"{counts[missing[0]]} tokens of {missing[0]}; give how many exist")
    estimates = {run.language: algorithm_1(run, pivot_tokens=pivot_tokens) for run in runs}
    refusals = [why for run in runs for why in _refusals(run, estimates[run.language], pivot)]
    if refusals:
        return Recommendation(
            verdict=f"No mix is recommended. {' '.join(refusals)}",
            mix=None,
            reasons=tuple(refusals),
            targets={},
        )
    limits = tuple(why for name, one in estimates.items() if (why := _limit(name, one)))
    tokens = np.array([pivot_tokens, *(one.tokens for one in estimates.values())])
    listed = ", ".join(
        f"{shown(name)} {weight:.1%}" for name, weight in zip(counts, tokens / tokens.sum(), strict=True)
    )
    sentences = [_sentence(run, estimates[run.language]) for run in runs]
    verdict = " ".join([f"Share of the training tokens: {listed}.", *sentences, *limits])
    languages = {
        name: LanguageShare(weight=float(weight), weight_interval=(low, high), unique_tokens=int(count))
        for name, weight, (low, high), count in zip(
            counts, tokens / tokens.sum(), _weight_intervals(runs, pivot_tokens), tokens, strict=True
        )
    }
    evidence = {name: one.model_dump(mode="json") for name, one in estimates.items()}
    sets = {run.language: {"rises and falls": run.problem_set, "best": run.best_by} for run in runs}
    mix = Mix(
        languages=languages,
        pivot=pivot,
        verdict=verdict,
        method="algorithm-1",
        provenance={"targets": evidence, "problem_sets": sets, "caveat": CAVEAT},
    )
    return Recommendation(verdict=verdict, mix=mix, reasons=limits, targets=estimates)


def _refusals(run: TargetRun, estimate: TargetEstimate, pivot: str) -> list[str]:
    name, pivot, score = shown(run.language), shown(pivot), run.target_score
    found = []
    if not run.continues_from_pivot:
        found.append(
            f"The run on {name} does not continue from a model of {pivot}, so its loss does not measure how a"
            f" {pivot} system gives way; continue the pre-training of a {pivot} model on {name}."
        )
    if not score.rises_and_falls_:
        remedy = " A longer run, or problems that only the pivot's knowledge answers, may show it."
        found.append(
            f"The score in {name} on {run.problem_set} is not shown to rise and then fall: {score.verdict_}"
            f"{remedy if score.resolved_ else ''}"
        )
    if estimate.proportion >= 1:
        found.append(
            f"The best checkpoint for {name}, step {estimate.best_step}, comes before the loss falls below"
            f" alpha (step {run.loss.alpha_step_}): Algorithm 1 gives no tokens of {name} there;"
            " save and score checkpoints earlier and later."
        )
    return found


def _limit(name: str, estimate: TargetEstimate) -> str | None:
    name = shown(name)
    if estimate.tokens >= estimate.available_tokens:
        return (
            f"Algorithm 1 asks for more {name} than the {_amount(estimate.available_tokens)} tokens that"
            f" exist (P = {estimate.proportion:.3f}): all of it is used, and the weights follow from that."
        )
    low, high = estimate.tokens_interval
    if low == 0 or high >= estimate.available_tokens:
        end = "all that exists" if low > 0 else "none at all"
        return f"The interval of {name} reaches {end}: the data do not bound the amount on that side."
    return None


def _sentence(run: TargetRun, one: TargetEstimate) -> str:
    interval, band = (" to ".join(map(_amount, ends)) for ends in (one.tokens_interval, one.tokens_band))
    moves = f"; {one.most_influential} moves it most" if one.most_influential else ""
    return (
        f"{shown(run.language)}: {_amount(one.tokens)} unique tokens ({LEVEL:.0%} interval {interval};"
        f" {band} over choices of alpha and run length{moves}), from P = {one.proportion:.3f} at step"
        f" {one.best_step}, where the mean of both languages' scores is highest ({run.best_by})."
    )


def _weight_intervals(runs: Sequence[TargetRun], pivot_tokens: int) -> list[tuple[float, float]]:
    """Of the pivot's weight, then of each target's."""
    draws = min(len(run.mean_score.best_draws_) for run in runs)
    tokens = [np.full(draws, float(pivot_tokens))]
    for run in runs:
        shares = run.loss.draws_at(run.mean_score.best_draws_[:draws])
        tokens.append(target_tokens(pivot_tokens, shares, available=run.available_tokens))
    weights = np.stack(tokens, axis=1) / np.sum(tokens, axis=0)[:, None]
    return [(float(low), float(high)) for low, high in percentile_interval(weights)]


def _ends(tokens: Float[np.ndarray, " n"]) -> tuple[int, int]:
    return round(float(np.min(tokens))), round(float(np.max(tokens)))


def _amount(tokens: float) -> str:
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.0f}"
