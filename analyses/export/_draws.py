"""The mix in draws: what one draw of a training stack is, and how often each language is drawn.

    p_k   share of language k among the processed tokens, as the mix has it
    m_k   mean tokens of one draw from language k
    q_k = (p_k / m_k) / Σ_j (p_j / m_j)    its share of the draws; p_k where all draws are equally long

The other functions say in words what a stack's own syntax cannot: what is left out, what must be built
beforehand, and what is read more than once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix


def drawn(mix: Mix, given: Mapping[str, Any], *, what: str) -> list[str]:
    """Languages of the mix with a weight above 0, in its order, each of which `given` must name.

    Raises
    ------
    InputError
        If `given` lacks one of them, or names one that the mix does not; `what` says what was given.
    """
    if unknown := [language for language in given if language not in mix.languages]:
        listed = ", ".join(mix.languages)
        raise InputError(f"{what} is given for {unknown[0]!r}, but the mix has only: {listed}")
    wanted = [language for language, weight in mix.weights.items() if weight > 0]
    if missing := [language for language in wanted if language not in given]:
        raise InputError(f"no {what} is given for {missing[0]!r}; the mix draws from: {', '.join(wanted)}")
    return wanted


def token_shares(mix: Mix, sources: Mapping[str, str], *, what: str = "source") -> dict[str, float]:
    """p_k of each language that is drawn; they sum to 1 to rounding, which some stacks insist on.

    Raises
    ------
    InputError
        As `drawn`.
    """
    languages = drawn(mix, sources, what=what)
    return _normalized({language: mix.weights[language] for language in languages})


def mean_tokens(
    mix: Mix, languages: Iterable[str], given: Mapping[str, float] | float | None
) -> dict[str, float]:
    """m_k of each of `languages`, from one number per language or one for all.

    Raises
    ------
    InputError
        Without `given`, since token shares are not shares of documents; for a language without a mean; for a
        mean that is not above 0.
    """
    if given is None:
        raise InputError(
            "this stack draws documents, the mix counts tokens: give tokens_per_document"
            " (--tokens-per-document LANGUAGE=MEAN), the mean of each source, or one number if every example"
            " is a packed row of that many tokens"
        )
    if isinstance(given, Mapping):
        drawn(mix, given, what="mean number of tokens per document")
        means = {language: float(given[language]) for language in languages}
    else:
        means = dict.fromkeys(languages, float(given))
    for language, mean in means.items():
        if not (math.isfinite(mean) and mean > 0):
            raise InputError(f"{language} has {mean:g} tokens per document; give its measured mean, above 0")
    return means


def draw_shares(shares: Mapping[str, float], means: Mapping[str, float]) -> dict[str, float]:
    """q_k from p_k and m_k; they sum to 1 to rounding."""
    return _normalized({language: share / means[language] for language, share in shares.items()})


def conversion(shares: Mapping[str, float], means: Mapping[str, float]) -> list[str]:
    """The step from p_k to q_k, with its numbers."""
    if len(set(means.values())) == 1:
        return ["Every draw has the same number of tokens, so a share of draws is a share of tokens: q = p."]
    return [
        "Documents are drawn, tokens are wanted: q = (p / m) / sum of all p / m, where m is the mean length.",
        *(
            f"    {language}: p {shares[language]:.6g}, m {means[language]:g} tokens, q {q:.6g}"
            for language, q in draw_shares(shares, means).items()
        ),
    ]


def left_out(mix: Mix) -> list[str]:
    """The languages that are not drawn."""
    none = [language for language, weight in mix.weights.items() if weight == 0]
    return [f"Left out, since its weight is 0: {language}." for language in none]


def to_build(mix: Mix, languages: Iterable[str]) -> list[str]:
    """What must be kept of each source before a stack reads it that has no such limit itself."""
    limits = {language: mix.languages[language].unique_tokens for language in languages}
    return [
        f"Build {language} from {limit} tokens of its source, chosen at random; this syntax has no limit."
        for language, limit in limits.items()
        if limit is not None
    ]


def read_again(mix: Mix, languages: Iterable[str]) -> list[str]:
    """The sources that a stack reads more than once; for stacks that begin a source anew at its end."""
    epochs = {language: mix.languages[language].epochs for language in languages}
    return [
        f"{language} is read {count:.3g} times: its source begins anew whenever it ends."
        for language, count in epochs.items()
        if count is not None and count > 1
    ]


def end(mix: Mix, shares: Mapping[str, float], *, first: bool) -> list[str]:
    """Where a stack stops that ends with the first of its sources, or with the last."""
    which = "the first source ends" if first else "every source was read at least once"
    unique = {language: mix.languages[language].unique_tokens for language in shares}
    totals = {language: limit / shares[language] for language, limit in unique.items() if limit is not None}
    if len(totals) < len(shares):
        return [f"Ends when {which}; the mix does not say how many tokens each source has."]
    decides = (min if first else max)(totals, key=totals.__getitem__)
    return [f"Ends when {which}: {decides} decides, at {totals[decides]:.4g} tokens in all."]


def _normalized(parts: Mapping[str, float]) -> dict[str, float]:
    # Twelve digits: plain to read, and NumPy refuses probabilities whose sum is more than 1.5e-8 off 1.
    total = math.fsum(parts.values())
    return {language: float(f"{part / total:.12g}") for language, part in parts.items()}
