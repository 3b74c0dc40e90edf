"""Whether a language's neurons matter to that language more than to others, and more than random ones do.

Of every set, mode and step (`interp.set_ablation`):

    effect        how much the loss of each language rises, in nats per token
    specificity   effect on the own language − mean effect on the others; of the set − of its random sets

The interval of a specificity carries documents and random sets. A random set is what any set might have been,
so the question is not where the mean of its random sets lies, but where one more of them would:

    s² = (1 + 1/n)·s²(n random sets) + s²(documents, resampled)

with Student's t at Welch and Satterthwaite's degrees of freedom. A set is

    supported        where ablating it raises the own loss, its specificity is above zero by that interval and
                     above that of every random set: for random sets that is so at one in 1 + n at the most
    not resolvable   where there is no interval (an empty set, one document of a language, no random sets of
                     the same kind); or it holds zero, and either no random set comes as far, or text makes
                     more than half of what random sets differ by: more text may tell
    unsupported      otherwise: random sets do as much

Sentences are about zeroing, the one mode that brings nothing into the other languages' text: the mean over
all languages of neurons that fire in one is half-way to that language everywhere, and a resampled position is
one of that language as often as not. That costs the others too, so that under these modes a specificity is a
lower bound, and the pivot's set, put at its mean in the target's prompts, speaks for the pivot.

The same of the identifier that is chosen where the target's is due: ablating the target's set should move the
log-odds toward the pivot, ablating the pivot's toward the target, and amplifying the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from scipy.stats import t as student

from babelscope.analyses.pivot_share import NULL_LEVEL
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.stats import LEVEL, percentile_interval, resample
from babelscope.interp.ablation import Mode

CELL = ("step", "set", "mode")
JUDGED = Mode.ZERO  # by which a set is judged in a sentence: one mode, since three would find more by chance
ALSO = (Mode.MEAN, Mode.RESAMPLE)


class Finding(StrEnum):
    """What ablation says of a set."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    UNRESOLVED = "not resolvable"


class SetEffects:
    """What ablating each language's set does to every language.

    Parameters
    ----------
    results
        With the measure "set_ablation", and "set_ablation_choice" if the choice is wanted.
    pivot, target
        Prompts of the choice are the target's.

    Attributes
    ----------
    table_ : DataFrame
        step, set, mode, measured (a language, "choice" or "right"), size, estimate, low, high (documents
        resampled; concepts, then prompts), null_low, null_high (90% band of the random sets) and
        `outside_null`. Of a language the rise of its loss in nats per token; "choice" is the change of the
        log-odds of pivot against target, "right" that of the probability of the right identifier.
    specificity_ : DataFrame
        step, set, mode, size, estimate, low, high, `finding`.
    choice_ : DataFrame or None
        The same of the log-odds, of the set − its random sets; None without that measure.
    verdict_ : str
        Of every language's set, in a sentence or two.
    choice_verdict_ : str or None
        Whether the sets decide which identifier is chosen.

    Raises
    ------
    InputError
        If there is one language only: nothing is specific then.
    """

    def __init__(self, results: Mapping[str, xr.Dataset], *, pivot: str, target: str, seed: int = 0):
        data = results["set_ablation"]
        languages = data["set"].to_numpy().tolist()
        if len(languages) < 2:
            raise InputError(f"sets of {languages} alone: what is specific takes text of two languages")
        self.pivot, self.target = pivot, target
        sizes = _sizes(data)
        effects = {language: _on_loss(data, language, seed=seed) for language in languages}
        tables = [_table(effect, sizes, language) for language, effect in effects.items()]
        self.specificity_ = _specificity(effects, sizes)
        self.choice_, self.choice_verdict_ = None, None
        if "set_ablation_choice" in results:
            data = results["set_ablation_choice"]
            odds, right = (_on_choice(data, name, seed=seed) for name in ("", "right_"))
            tables += [_table(odds, _sizes(data), "choice"), _table(right, _sizes(data), "right")]
            self.choice_ = _on_sides(odds, _sizes(data), pivot=pivot)
            self.choice_verdict_ = " ".join(
                self._choice_in_words(self.choice_, name) for name in (target, pivot)
            )
        self.table_ = pd.concat(tables, ignore_index=True)
        self.verdict_ = " ".join(self._in_words(language) for language in languages)

    def _in_words(self, language: str) -> str:
        others = [shown(name) for name in self.specificity_["set"].unique() if name != language]
        table, *rest = (_trained(self.specificity_, language, mode) for mode in (JUDGED, *ALSO))
        opening = f"{shown(language)}'s neurons ({_of_sizes(table)}) zeroed:"
        claim = f"costs {shown(language)} more than {' and '.join(others)}"
        sentence = _sentence(opening, claim, table, unit="nats per token", form="+.3f")
        counts = [(of["finding"] == Finding.SUPPORTED).sum() or "none" for of in rest]
        return (
            f"{sentence} Set to their means, the same is supported at {counts[0]}; resampled, at {counts[1]}."
        )

    def _choice_in_words(self, table: pd.DataFrame, language: str) -> str:
        other = self.pivot if language == self.target else self.target
        where = f"where {shown(self.target)}'s identifier is due"
        opening = f"{shown(language)}'s neurons zeroed {where}:"
        claim = f"moves the choice toward {shown(other)}"
        trained = _trained(table, language, JUDGED)
        return _sentence(opening, claim, trained, unit="of log-odds", form="+.2f")


def _trained(table: pd.DataFrame, language: str, mode: Mode) -> pd.DataFrame:
    """One set in one mode at every step but 0, where there are others."""
    step, of, how = (table[name].to_numpy() for name in CELL)
    kept = np.flatnonzero(((step > 0) | (step.max() == 0)) & (of == language) & (how == mode))
    return table.iloc[kept].reset_index(drop=True)


class _Effects(NamedTuple):
    """Estimates by cell, of sets and of their random sets, with draws of the resampled text.

    `draws` are of the estimate, `apart` of the estimate minus the mean of the random sets. `independent`
    counts the documents, or concepts, that were resampled.
    """

    estimate: Float[np.ndarray, "step set mode"]
    null: Float[np.ndarray, "step set mode draw"]
    draws: Float[np.ndarray, "resample step set mode"]
    apart: Float[np.ndarray, "resample step set mode"]
    independent: int
    cells: pd.MultiIndex


def _effects(
    data: xr.Dataset, name: str, of: str, *, per: np.ndarray, clusters: Sequence[str] | None, seed: int
) -> _Effects:
    """Changes of a variable, per token or prompt, over documents or prompts."""
    before = data[f"{name}before"]
    own = (data[f"{name}after"] - before).transpose(of, *CELL)
    random = (data[f"null_{name}after"] - before).transpose(of, *CELL, "draw").to_numpy()
    weights = resample(len(per), clusters=clusters, seed=seed)
    total = weights @ per

    def resampled(values: np.ndarray) -> np.ndarray:
        draws = weights @ values.reshape(len(values), -1) / total[:, None]
        return draws.reshape(-1, *values.shape[1:])

    values = own.to_numpy()
    return _Effects(
        estimate=values.sum(0) / per.sum(),
        null=random.sum(0) / per.sum(),
        draws=resampled(values),
        apart=resampled(values - random.mean(-1)),
        independent=len(set(clusters)) if clusters else len(per),
        cells=pd.MultiIndex.from_product([own[name].to_numpy() for name in CELL], names=CELL),
    )


def _on_loss(data: xr.Dataset, language: str, *, seed: int) -> _Effects:
    some = data.isel(document=np.flatnonzero(data["language"].to_numpy() == language))
    tokens = some["tokens"].isel(step=0).to_numpy()
    return _effects(some, "", "document", per=tokens, clusters=None, seed=seed)


def _on_choice(data: xr.Dataset, name: str, *, seed: int) -> _Effects:
    concepts = data["concept"].to_numpy().tolist()
    return _effects(data, name, "prompt", per=np.ones(len(concepts)), clusters=concepts, seed=seed)


def _table(effects: _Effects, sizes: pd.Series, measured: str) -> pd.DataFrame:
    """A row per cell, with interval and null band."""
    ends = percentile_interval(effects.draws, clusters=effects.independent)
    band = percentile_interval(np.moveaxis(effects.null, -1, 0), level=NULL_LEVEL)
    low, high, null_low, null_high = (
        of.ravel() for of in (*np.moveaxis(ends, -1, 0), *np.moveaxis(band, -1, 0))
    )
    table = pd.DataFrame(
        {
            "measured": measured,
            "estimate": effects.estimate.ravel(),
            "low": low,
            "high": high,
            "null_low": null_low,
            "null_high": null_high,
            "outside_null": (low > null_high) | (high < null_low),
        },
        index=effects.cells,
    )
    return _with_sizes(table, sizes)


def _specificity(effects: Mapping[str, _Effects], sizes: pd.Series) -> pd.DataFrame:
    """Effects on the own language minus the mean of the others', against random sets."""
    tables = []
    for language, own in effects.items():
        others = [other for other in effects.values() if other is not own]
        fields = ("estimate", "null", "draws", "apart")
        excess = {of: getattr(own, of) - np.mean([getattr(o, of) for o in others], axis=0) for of in fields}
        fewest = min(one.independent for one in effects.values())
        judged = _judged(own._replace(**excess, independent=fewest), claim=own.estimate > 0)
        tables.append(judged[judged.index.get_level_values("set") == language])
    return _with_sizes(pd.concat(tables), sizes)


def _on_sides(effects: _Effects, sizes: pd.Series, *, pivot: str) -> pd.DataFrame:
    """Changes of the log-odds against random sets; the claim is that a set speaks for its own language."""
    language, mode = (effects.cells.get_level_values(name) for name in ("set", "mode"))
    # Without what speaks for the target, the log-odds of the pivot rise; with more of it they fall.
    side = np.where((language == pivot) == (mode == Mode.AMPLIFY), 1.0, -1.0)
    side = side.reshape(effects.estimate.shape)
    turned = effects._replace(
        estimate=side * effects.estimate, null=side[..., None] * effects.null, apart=side * effects.apart
    )
    judged = _judged(turned, claim=turned.estimate > 0)
    back = side.ravel()
    ends = np.sort(np.stack([back * judged["low"], back * judged["high"]]), axis=0)
    judged = judged.assign(estimate=back * judged["estimate"], low=ends[0], high=ends[1])
    return _with_sizes(judged, sizes)


def _judged(effects: _Effects, *, claim: Bool[np.ndarray, "step set mode"]) -> pd.DataFrame:
    """Estimate minus the mean of the random sets, with its interval and the finding, a row per cell.

    Parameters
    ----------
    claim
        Where the effect itself has the sign that is claimed.
    """
    n, documents = effects.null.shape[-1], effects.independent
    estimate = effects.estimate - effects.null.mean(-1)
    by_set = effects.null.var(-1, ddof=1) * (1 + 1 / n)
    inflated = documents / (documents - 1) if documents > 1 else np.nan
    by_text = effects.apart.var(0, ddof=1) * inflated
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = (by_set + by_text) ** 2 / (by_set**2 / (n - 1) + by_text**2 / (documents - 1 or np.nan))
    half = student.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(by_set + by_text)
    beyond = claim & (effects.estimate > effects.null.max(-1))
    holds_zero = abs(estimate) <= half
    open_question = np.isnan(half) | (holds_zero & (beyond | (by_text > by_set / 2)))
    finding = np.select(
        [open_question, beyond & (estimate > half)],
        [Finding.UNRESOLVED, Finding.SUPPORTED],
        Finding.UNSUPPORTED,
    )
    columns = {"estimate": estimate, "low": estimate - half, "high": estimate + half, "finding": finding}
    return pd.DataFrame({name: of.ravel() for name, of in columns.items()}, index=effects.cells)


def _sizes(data: xr.Dataset) -> pd.Series:
    """Neurons of each set, by step and set."""
    return data["size"].sum("layer").transpose("step", "set").to_series().rename("size")


def _with_sizes(table: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    return table.join(sizes, on=["step", "set"]).reset_index()


def _of_sizes(table: pd.DataFrame) -> str:
    fewest, most = np.quantile(table["size"].to_numpy(), [0, 1]).astype(int)
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _sentence(opening: str, claim: str, table: pd.DataFrame, *, unit: str, form: str) -> str:
    """At how many trained checkpoints a claim is supported, unsupported or not resolvable."""
    more = f"{claim}, more than matched random sets do"
    finding, estimate = table["finding"].to_numpy(), table["estimate"].to_numpy()
    trained = table["step"].to_numpy().max() > 0
    of_all = f"of {len(table)} trained checkpoints" if trained else "of 1 checkpoint"
    supported, unsupported, unresolved = (np.flatnonzero(finding == of) for of in Finding)
    empty = np.count_nonzero(table["size"].to_numpy() == 0)
    rest = [f"{Finding.UNSUPPORTED} at {len(unsupported)}"] if len(unsupported) else []
    if len(unresolved):
        without = f" ({empty} without any)" if empty else ""
        rest.append(f"{Finding.UNRESOLVED} at {len(unresolved)}{without}")
    if not len(supported):
        return f"{opening} that this {more}, is {' and '.join(rest)} {of_all}."
    best = table.iloc[supported[np.abs(estimate[supported]).argmax()]]
    value, low, high = (format(best[name], form) for name in ("estimate", "low", "high"))
    others = f" ({', '.join(rest)})" if rest else ""
    return (
        f"{opening} this {more}, at {len(supported)} {of_all}{others}; most at"
        f" step {best['step']:,}, by {value} ({low} to {high}) {unit}."
    )
