"""Algorithm 1 of "The Rise and Down of Babel Tower" (arXiv 2412.07298) for one target.

    j          = argmax over checkpoints from α on of the fitted mean of pivot and target score
    η_target   = η_pivot / P(l_j) − η_pivot        P as in `proportion.py`, η in unique tokens

Before α the loss is that of a vocabulary not learnt yet, and P > 1: such checkpoints do not compete for j.
The pivot's corpus is kept whole; a target cannot have more than exists. As P → 0, η_target grows without
bound, so its interval carries both the documents behind P and the uncertainty of the best checkpoint.

It computes; whether the answer means anything is said by `refusals`, and `mix.recommend` heeds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from babelscope.analyses.amounts import amount
from babelscope.analyses.proportion import LossProportion
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector
from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.stats import LEVEL, percentile_interval


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
    other_best
        The best step by other sets of problems, in words, that could have been chosen.
    origin
        Where it comes from: plain JSON for the provenance, without absolute paths.
    """

    language: str
    loss: LossProportion
    target_score: StageDetector
    mean_score: StageDetector
    available_tokens: int
    continues_from_pivot: bool
    problem_set: str = "all problems"
    best_by: str = "all problems"
    other_best: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> tuple[int, tuple[int, int]]:
        """The best checkpoint j and its interval; `InputError` where the mean score is flat."""
        step, interval = self.mean_score.best_step_, self.mean_score.best_interval_
        if step is None or interval is None:
            raise InputError(
                f"{self.language} has no best checkpoint ({self.mean_score.verdict_}); see `refusals`"
            )
        return step, interval


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
        Lowest and highest η_target when one input moves and the others stay: see `moved_shares`.
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

    def sentence(self, run: TargetRun) -> str:
        """The estimate for a reader."""
        interval, band = (" to ".join(map(amount, ends)) for ends in (self.tokens_interval, self.tokens_band))
        moves = f"; {self.most_influential} moves it most" if self.most_influential else ""
        return (
            f"{shown(run.language)}: {amount(self.tokens)} unique tokens ({LEVEL:.0%} interval {interval};"
            f" {band} over choices of alpha and run length{moves}), from P = {self.proportion:.3f} at step"
            f" {self.best_step}, where the mean of both languages' scores is highest ({run.best_by})."
        )

    def limit(self, language: str) -> str | None:
        """What the text that exists did to the estimate, for a reader."""
        name = shown(language)
        if self.tokens >= self.available_tokens:
            return (
                f"Algorithm 1 asks for more {name} than the {amount(self.available_tokens)} tokens that"
                f" exist (P = {self.proportion:.3f}): all of it is kept."
            )
        low, high = self.tokens_interval
        if low == 0 or high >= self.available_tokens:
            end = "all that exists" if low > 0 else "none at all"
            return f"The interval of {name} reaches {end}: the data do not bound the amount on that side."
        return None


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


def moved_shares(run: TargetRun) -> dict[str, Float[np.ndarray, " choices"]]:
    """P at the best checkpoint as one input moves and the others stay.

    "alpha" and "beta" take the choices of the sensitivity band, "best step" goes to the ends of its interval,
    "problem set" to the best steps by the other sets of problems, where there are any.
    """
    loss, (step, interval) = run.loss, run.best
    variants = loss.variants_at(step).dropna(subset="proportion")
    under = variants["proportion"].to_numpy()
    moved = {
        "alpha": under[variants["last_step"] == variants["last_step"].max()],
        "beta": under[variants["alpha_step"] == loss.alpha_step_],
        "best step": np.array([loss.at(end) for end in interval]),
    }
    if run.other_best:
        moved["problem set"] = np.array([loss.at(at) for at in (step, *run.other_best.values())])
    return moved


def token_draws(run: TargetRun, *, pivot_tokens: float) -> Float[np.ndarray, " draws"]:
    """Bootstrap draws of η_target: of the best checkpoint, and of the documents behind P there."""
    shares = run.loss.draws_at(run.mean_score.best_draws_)
    return target_tokens(pivot_tokens, shares, available=run.available_tokens)


def algorithm_1(run: TargetRun, *, pivot_tokens: float) -> TargetEstimate:
    """η_target for one target, with everything that makes it uncertain.

    Raises
    ------
    InputError
        If scores were taken after the last held-out loss, or no checkpoint is best.
    """
    loss, (step, interval) = run.loss, run.best
    scored, measured = int(run.mean_score.curve_.steps[-1]), int(loss.steps_[-1])
    if scored > measured:
        raise InputError(
            f"{run.language} is scored up to step {scored}, but its held-out loss ends at step {measured};"
            " measure both on the same checkpoints"
        )

    def tokens(proportion: Float[np.ndarray, "*shape"] | float) -> Float[np.ndarray, "*shape"]:
        return target_tokens(pivot_tokens, proportion, available=run.available_tokens)

    under = loss.variants_at(step)["proportion"].dropna().to_numpy()
    influence = {name: _ends(tokens(shares)) for name, shares in moved_shares(run).items()}
    width = {name: high - low for name, (low, high) in influence.items()}
    widest = max(width, key=width.__getitem__)
    low, high = percentile_interval(loss.draws_at(run.mean_score.best_draws_))
    return TargetEstimate(
        best_step=step,
        best_interval=interval,
        proportion=loss.at(step),
        proportion_interval=(float(low), float(high)),
        proportion_band=(float(under.min()), float(under.max())),
        tokens=round(float(tokens(loss.at(step)))),
        tokens_interval=_ends(percentile_interval(token_draws(run, pivot_tokens=pivot_tokens))),
        tokens_band=_ends(tokens(under)),
        available_tokens=run.available_tokens,
        influence=influence,
        most_influential=widest if width[widest] > 0 else None,
    )


def refusals(run: TargetRun, pivot: str) -> list[str]:
    """Why the run bears no recommendation, in sentences; empty where it does.

    Algorithm 1 reads how a pivot's system gives way to a new one. It says nothing about a run that does not
    continue from a pivot model, or whose score does not demonstrably rise and then fall.
    """
    name, pivot, score, loss = shown(run.language), shown(pivot), run.target_score, run.loss
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
    best = run.mean_score.best_step_
    if best is None:
        found.append(
            f"The mean of both languages' scores ({run.best_by}) has no best checkpoint for {name}:"
            f" {run.mean_score.verdict_}"
        )
    elif loss.at(best) >= 1:
        found.append(
            f"The best checkpoint for {name}, step {best}, comes before the loss falls below"
            f" alpha (step {loss.alpha_step_}): Algorithm 1 gives no tokens of {name} there;"
            " save and score checkpoints earlier and later."
        )
    return found


def _ends(tokens: Float[np.ndarray, " n"]) -> tuple[int, int]:
    return round(float(np.min(tokens))), round(float(np.max(tokens)))
