"""How much of each language to train on: Algorithm 1 for several targets, limits, gain, and a verdict.

    Pbar(η_i)  = η_i / Σ_k η_k      (Eq. 3 of arXiv 2412.07298) the wanted shares of the processed tokens
    p          = the mix nearest to these that budget, text, floors and ceilings allow (`nearest_mix`)

Each target is computed against the pivot by itself, from its own acquisition run (`algorithm_1`), as in the
paper; with one target the wanted shares are P and 1 − P. Every bootstrap draw of the wanted shares is
brought within the limits, so that intervals are of what is recommended.

Unique tokens stay those of Algorithm 1, whatever limits do to the weights, unless the run would read them
more often than the limit of epochs: then as many more are kept as that takes, and exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np
from jaxtyping import Float

from babelscope.analyses.algorithm_1 import (
    TargetEstimate,
    TargetRun,
    algorithm_1,
    mean_score,
    refusals,
    target_tokens,
    token_draws,
)
from babelscope.analyses.amounts import listed
from babelscope.analyses.mix_gain import MINIMUM_GAIN, MixGain, predicted_gain
from babelscope.analyses.mix_sensitivity import Swing, swings, wanted_tokens
from babelscope.analyses.nearest_mix import Binding, Bounds, Limits
from babelscope.analyses.proportion import CAVEAT
from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.stats import percentile_interval
from babelscope.corpora.mix import LanguageShare, Mix, check_sum
from babelscope.corpora.mixing import apportion

__all__ = [
    "Limits",
    "Recommendation",
    "TargetEstimate",
    "TargetRun",
    "mean_score",
    "recommend",
    "target_tokens",
]


class Recommendation(Strict):
    """A mix, or the reasons why there is none.

    Attributes
    ----------
    verdict
        One paragraph for a reader: what to do, then what it rests on.
    mix
        None when refused.
    reasons
        Why it was refused; with a mix, what it was limited by.
    targets
        The estimates behind it, by target; empty when refused.
    binding
        The limits without which the mix would be another.
    gain
        The mix against the present one; None when refused.
    sensitivity
        What moves the mix, the most influential input first.
    """

    verdict: str
    mix: Mix | None
    reasons: tuple[str, ...]
    targets: dict[str, TargetEstimate]
    binding: tuple[Binding, ...] = ()
    gain: MixGain | None = None
    sensitivity: tuple[Swing, ...] = ()


def recommend(
    runs: Sequence[TargetRun],
    *,
    pivot: str,
    pivot_tokens: int,
    limits: Limits | None = None,
    present: Mapping[str, float] | None = None,
    minimum_gain: float = MINIMUM_GAIN,
) -> Recommendation:
    """Unique tokens and sampling weights for the pivot and its targets, or a refusal in words.

    Parameters
    ----------
    runs
        One acquisition run per target; their order does not matter.
    pivot, pivot_tokens
        The language that the targets are learnt from, and η_pivot: its corpus, kept whole.
    limits
        What the mix must keep to; default: nothing but what exists.
    present
        Sampling weights of the mix that would be left, of the same languages. Default: in proportion to what
        exists.
    minimum_gain
        The gain in mean score worth having, stated beforehand.

    Returns
    -------
    Recommendation
        Without a mix if any target's run breaks a precondition: a mix that leaves out a language that was
        asked for is another mix. The reasons name the target.

    Raises
    ------
    InputError
        Without targets, with one target twice, with token counts below 1, with limits that no mix meets, or
        with a present mix of other languages.
    """
    runs = sorted(runs, key=lambda run: run.language)
    limits = limits or Limits()
    available = _available(runs, pivot, pivot_tokens)
    bounds = Bounds.of(limits, available)
    before = present_weights(present, available)
    if not minimum_gain >= 0:
        raise InputError(f"a minimum gain of {minimum_gain:g}: give a difference of scores, 0 or more")
    if reasons := _refused(runs, pivot):
        verdict = f"No mix is recommended. {' '.join(reasons)}"
        return Recommendation(verdict=verdict, mix=None, reasons=tuple(reasons), targets={})
    estimates = {run.language: algorithm_1(run, pivot_tokens=pivot_tokens) for run in runs}
    unique = {pivot: pivot_tokens, **{name: one.tokens for name, one in estimates.items()}}
    # Not the whole tokens of the estimates: weights are the same in billions of tokens.
    shares = {run.language: run.loss.at(run.best[0]) for run in runs}
    wanted = wanted_tokens(shares, available, pivot)
    weights = bounds.nearest(wanted)
    whole = dict(zip(available, (wanted / wanted.sum()).tolist(), strict=True))
    given = dict(zip(available, weights.tolist(), strict=True))
    intervals = dict(zip(available, _intervals(runs, pivot_tokens, bounds), strict=True))
    binding = bounds.binding(wanted)
    moving = swings(runs, pivot=pivot, pivot_tokens=pivot_tokens, limits=limits)
    gain = predicted_gain(
        runs,
        pivot=pivot,
        recommended=given,
        intervals=intervals,
        present=before,
        natural=present is None,
        broken=bounds.broken_by(before),
        minimum=minimum_gain,
    )
    processed = dict(zip(available, _processed(weights, limits), strict=True))
    kept = {name: _kept(unique[name], processed[name], available[name], limits) for name in available}
    raised = [
        f"{shown(name)} keeps more than Algorithm 1's unique tokens, so that no token is read more than"
        f" {limits.epochs:g} times."
        for name in available
        if kept[name] > unique[name]
    ]
    limited = (
        *(why for name, one in estimates.items() if (why := one.limit(name))),
        *(one.sentence for one in binding),
        *raised,
    )
    most = [f"What moves the mix most is the {moving[0].name}."] if moving else []
    share = f"Share of the training tokens: {listed(given)}."
    sentences = [estimates[run.language].sentence(run) for run in runs]
    verdict = " ".join([gain.verdict, share, *sentences, *limited, *most])
    allowed = dict(zip(available, zip(bounds.low.tolist(), bounds.high.tolist(), strict=True), strict=True))
    languages = {
        name: LanguageShare(
            weight=given[name],
            weight_interval=intervals[name],
            weight_bounds=allowed[name] if allowed[name] != (0, 1) else None,
            wanted_weight=whole[name],
            present_weight=before[name],
            unique_tokens=kept[name],
            available_tokens=available[name],
            processed_tokens=processed[name],
        )
        for name in available
    }
    mix = Mix(
        languages=languages,
        pivot=pivot,
        decision=gain.decision,
        verdict=verdict,
        method="algorithm-1",
        provenance={
            "babelscope": version("babelscope"),
            "runs": {run.language: _about(run) for run in runs},
            "limits": limits.model_dump(mode="json"),
            "targets": {name: one.model_dump(mode="json") for name, one in estimates.items()},
            "gain": gain.model_dump(mode="json", exclude={"verdict", "present"}),
            "sensitivity": {one.name: one.moved for one in moving},
            "caveat": CAVEAT,
        },
    )
    return Recommendation(
        verdict=verdict,
        mix=mix,
        reasons=limited,
        targets=estimates,
        binding=binding,
        gain=gain,
        sensitivity=moving,
    )


def _available(runs: Sequence[TargetRun], pivot: str, pivot_tokens: int) -> dict[str, int]:
    """Tokens that exist, pivot first."""
    names = [run.language for run in runs]
    if not names or len({pivot, *names}) <= len(names):
        raise InputError(
            f"targets {names} of pivot {pivot!r}; give at least one, each once, and not the pivot"
        )
    counts = {pivot: pivot_tokens, **{run.language: run.available_tokens for run in runs}}
    if missing := [name for name, count in counts.items() if not count >= 1]:
        raise InputError(f"{counts[missing[0]]} tokens of {missing[0]}; give how many exist")
    return counts


def present_weights(present: Mapping[str, float] | None, available: Mapping[str, int]) -> dict[str, float]:
    """Weights of the present mix, as given or in proportion to what exists.

    Raises
    ------
    InputError
        If they are of other languages than `available`, or are no shares of one whole.
    """
    if present is None:
        return {name: count / sum(available.values()) for name, count in available.items()}
    if set(present) != set(available):
        raise InputError(
            f"the present mix is of {', '.join(present)}, the recommended one of {', '.join(available)};"
            " give the present weight of each of these, 0 if there is none"
        )
    if wrong := [name for name, weight in present.items() if not 0 <= weight <= 1]:
        raise InputError(
            f"the present weight of {wrong[0]} is {present[wrong[0]]:g}; give a share from 0 to 1"
        )
    check_sum(dict(present), what="the weights of the present mix")
    return {name: float(present[name]) for name in available}


def _refused(runs: Sequence[TargetRun], pivot: str) -> list[str]:
    found = {run.language: refusals(run, pivot) for run in runs}
    reasons = [why for sentences in found.values() for why in sentences]
    without = [shown(name) for name, sentences in found.items() if sentences]
    if reasons and len(without) < len(runs):
        reasons.append(f"For a mix without {' and '.join(without)}, give the other series alone.")
    return reasons


def _intervals(runs: Sequence[TargetRun], pivot_tokens: int, bounds: Bounds) -> list[tuple[float, float]]:
    """Of the weights within the bounds, pivot first."""
    tokens = [token_draws(run, pivot_tokens=pivot_tokens) for run in runs]
    draws = min(map(len, tokens))
    wanted = np.stack([np.full(draws, float(pivot_tokens)), *(one[:draws] for one in tokens)], axis=1)
    defined = ~np.isnan(wanted).any(1)  # alpha is not above beta in every resample of few documents
    return [(float(low), float(high)) for low, high in percentile_interval(bounds.nearest(wanted[defined]))]


def _processed(weights: Float[np.ndarray, " languages"], limits: Limits) -> list[int | None]:
    """The budget divided, where there is one."""
    if limits.budget is None:
        return [None] * len(weights)
    return apportion(weights.tolist(), total=limits.budget).tolist()


def _kept(unique: int, processed: int | None, available: int, limits: Limits) -> int:
    """Unique tokens: Algorithm 1's, or as many more as the limit of epochs asks for."""
    return unique if processed is None else min(available, max(unique, math.ceil(processed / limits.epochs)))


def _about(run: TargetRun) -> dict[str, object]:
    """What one run's part of the mix was made from."""
    return {
        **run.origin,
        "rises and falls": run.problem_set,
        "best by": run.best_by,
        "settings": {
            "level": run.mean_score.level,
            "stage draws": run.mean_score.draws,
            "stage seed": run.mean_score.seed,
            "loss resamples": run.loss.resamples,
            "loss seed": run.loss.seed,
        },
    }
