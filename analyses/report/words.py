"""Sentences for the report, each from numbers of the analysis and none saying more than they do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from babelscope.analyses.analysis import Analysis
from babelscope.analyses.comparison import ArmComparison
from babelscope.analyses.figures.names import group_name, signal_name
from babelscope.analyses.figures.steps import select
from babelscope.analyses.mix import Recommendation
from babelscope.analyses.pivot_share import PivotShare
from babelscope.analyses.stages import StageDetector
from babelscope.core.languages import shown
from babelscope.core.stats import percentile_interval

RULES = {"paper": "By the paper's rule", "frozen": "At frozen thresholds"}
Status = tuple[str, str]  # a word or two, and how they are marked: "yes", "no" or "open"


def stages(analysis: Analysis) -> list[str]:
    """The verdict of every signal."""
    return [
        f"By {signal_name(name, pivot=analysis.pivot, target=analysis.target)}: {found.verdict_}"
        for name, found in analysis.stages.items()
    ]


def peak_of_score(stages: Mapping[str, StageDetector]) -> int | None:
    """Best step of the first signal that rises and falls."""
    return next((found.best_step_ for found in stages.values() if found.rises_and_falls_), None)


def trained(share: PivotShare, statistic: str, *, prompts: str = "all") -> pd.DataFrame:
    """One statistic at all steps but 0."""
    return select(share.table_.query("step > 0"), statistic=statistic, prompts=prompts)


def working_language(share: PivotShare, *, since: int | None) -> list[str]:
    """Whether the intermediate layers show the pivot's identifiers beyond the nulls, and how that changes."""
    if not (share.steps_ > 0).any():
        return ["Only the model that training starts from was measured: nothing can be followed over steps."]
    pivot, layers = shown(share.pivot), f"layers {min(share.intermediate_)}–{max(share.intermediate_)}"
    subjects = {
        "cells": f"Where {shown(share.target)}'s identifier is due, {pivot}'s as top token of {layers}",
        "soft": f"The soft share of {pivot} there",
    }
    sentences = []
    for name, subject in subjects.items():
        table = trained(share, name)
        if table.empty:
            continue
        above = share.above_nulls(name)
        at, below = f"of {len(table)} trained checkpoints", np.count_nonzero(table["outside_null"])
        if len(above):
            most = above.loc[above["estimate"].idxmax()]
            ends = f"{most['low']:.0%} to {most['high']:.0%}"
            found = (
                f"above all three nulls at {len(above)} {at}, highest at step {most['step']:,}:"
                f" {most['estimate']:.0%} ({ends})"
            )
        elif below:
            found = f"above its nulls at none {at}, and below all three at {below}"
        else:
            found = f"not outside its null at any {at}"
        sentences.append(f"{subject} is {found}.")
    return [*sentences, *_movement(share, since=since)]


def _movement(share: PivotShare, *, since: int | None) -> list[str]:
    """Change of the soft share up to the last checkpoint.

    From the score's best checkpoint on, where there is one, otherwise from the first: chosen by other data.
    From its own highest it would fall whatever happens.
    """
    steps = share.steps_[share.steps_ > 0]
    first, last = since if since in steps else steps[0], steps[-1]
    if first == last:
        return []
    at_first, at_last = (int(np.flatnonzero(share.steps_ == step)[0]) for step in (first, last))
    soft, draws = share.estimate("soft"), share.draws_["soft"]
    low, high = percentile_interval(draws[:, at_last] - draws[:, at_first], clusters=share.concepts_)
    change = f"{100 * (soft[at_last] - soft[at_first]):+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}"
    moves = "does not resolvably change" if low <= 0 <= high else "rises" if low > 0 else "falls"
    best = ", the best checkpoint by score," if first == since else ""
    return [f"Between step {first:,}{best} and step {last:,} its soft share {moves} ({change})."]


def decoding(share: PivotShare) -> list[str]:
    """First and last value of what the same cells hold besides shares."""
    names = {
        "other": "Cells whose top token is neither language's identifier",
        "mass": f"Mean probability of {shown(share.pivot)}'s identifiers",
        "rank": f"Rank of {shown(share.target)}'s identifier, geometric mean",
        "entropy": "Entropy in nats",
    }
    forms = {"rank": ",.1f", "entropy": ".2f"}
    sentences = []
    for statistic, name in names.items():
        table, form = trained(share, statistic), forms.get(statistic, ".1%")
        if table.empty:
            continue
        first, last = table.iloc[0], table.iloc[-1]
        outside = np.count_nonzero(table["outside_null"])
        sentences.append(
            f"{name}: {first['estimate']:{form}} at step {first['step']:,} and {last['estimate']:{form}}"
            f" ({last['low']:{form}} to {last['high']:{form}}) at step {last['step']:,}, outside all nulls at"
            f" {outside} of {len(table)} checkpoints."
        )
    return sentences


def output(share: PivotShare) -> list[str]:
    """What the intermediate layers show where the model itself writes the target's identifier.

    The pivot's identifiers inside a model that writes them too only say that it has not learnt the target.
    """
    translated = trained(share, "cells", prompts="emitted")
    if translated.empty:
        return []
    above = share.above_nulls("cells", prompts="emitted")
    ranked = above if len(above) else translated
    most = ranked["estimate"].fillna(-1).to_numpy().argmax()
    step, pivot, target = ranked["step"].iloc[int(most)], shown(share.pivot), shown(share.target)
    layers = select(share.layers_, step=step).set_index("layer").sort_index()
    last, strongest = layers.iloc[-1], layers.loc[share.intermediate_, "pivot_cells"].idxmax()
    return [
        share.verdict_,
        f"At step {step:,}, layer {strongest} has {pivot}'s identifier on top in"
        f" {layers.loc[strongest, 'pivot_cells']:.0%} of the prompts; the last layer, the model's output, has"
        f" {target}'s in {last['target_cells']:.0%} and {pivot}'s in {last['pivot_cells']:.0%}.",
    ]


def scores(table: pd.DataFrame, *, pivot: str, target: str) -> list[str]:
    """Highest and last score of every group asked in the target, and the pivot's own lowest."""
    curves = table[["language", "group"]].drop_duplicates().to_numpy().tolist()
    sentences = []
    for language, group in curves:
        if language != target and group != "all":
            continue
        rows = select(table, language=language, group=group)
        word, at = (
            ("highest", rows["rate"].idxmax()) if language == target else ("lowest", rows["rate"].idxmin())
        )
        most, last = rows.loc[at], rows.iloc[-1]
        name = group_name(group, pivot=pivot, target=target)
        sentences.append(
            f"{shown(language)}, {name}: {word} {_rate(most)} at step {most['step']:,}, {_rate(last)} at the"
            f" last, step {last['step']:,}."
        )
    return sentences


def arms(comparison: ArmComparison) -> list[str]:
    """The verdict on every other arm, and what its interval does not cover."""
    return [*comparison.differences_["verdict"], *comparison.notes_]


def trade_off(arms: ArmComparison, *, pivot: str, target: str) -> list[str]:
    """What every arm solves of every group: what one mix gains here, it may lose there."""
    return [
        f"{group_name(str(group), pivot=pivot, target=target)}: "
        + ", ".join(f"{arm} {score:.0%}" for arm, score in zip(rows["arm"], rows["score"], strict=True))
        + "."
        for group, rows in arms.levels_.groupby("group", sort=False)
    ]


def losses(table: pd.DataFrame) -> list[str]:
    """First, last and lowest loss of every language."""
    sentences = []
    for language in dict.fromkeys(table["language"]):
        rows = select(table, language=language)
        first, last, lowest = rows.iloc[0], rows.iloc[-1], rows.loc[rows["nats"].idxmin()]
        sentences.append(
            f"{shown(language)}: {first['nats']:.3f} nats per token at step {first['step']:,},"
            f" {last['nats']:.3f} ({last['low']:.3f} to {last['high']:.3f}) at step {last['step']:,},"
            f" lowest {lowest['nats']:.3f} at step {lowest['step']:,}."
        )
    return sentences


def neurons(table: pd.DataFrame) -> list[str]:
    """Counts at the first and last checkpoint, and at how many they exceed the null."""
    sentences = []
    for rule, by in RULES.items():
        for language in dict.fromkeys(table["language"]):
            rows = select(table, rule=rule, language=language)
            if rows.empty:
                continue
            first, last = rows.iloc[0], rows.iloc[-1]
            above = np.count_nonzero(rows["low"] > rows["null_high"])
            found = (
                f"above its null at {above} of {len(rows)} checkpoints" if above else "not outside its null"
            )
            ends = f"{last['low']:,.0f} to {last['high']:,.0f}"
            sentences.append(
                f"{by}, {shown(language)} has {first['count']:,} at step {first['step']:,} and"
                f" {last['count']:,} ({ends}) at step {last['step']:,}, {found}."
            )
    return sentences


def proportion(analysis: Analysis) -> list[str]:
    """Both estimates at the best checkpoint, where there is one; where they differ; the caveat."""
    loss, language, apart = analysis.loss_proportion, analysis.language_proportion, analysis.disagreement
    step, sentences = peak_of_score(analysis.stages), []
    if loss is not None:
        sentences.append(
            f"By held-out loss, P is by construction 1 at step {loss.alpha_step_:,} (α) and 0 at the lowest"
            f" smoothed loss, at step {loss.beta_step_:,} (β)."
        )
    if loss is not None and step in loss.steps_:
        row = loss.to_frame().set_index("step").loc[step]
        sentences.append(
            f"At step {step:,}, the best checkpoint by score, it is {row['proportion']:.2f} ({row['low']:.2f}"
            f" to {row['high']:.2f} over documents; {row['band_low']:.2f} to {row['band_high']:.2f} over"
            " other choices of α and shorter runs)."
        )
    if language is not None:
        table = language.to_frame().set_index("step")
        at = step if step in table.index else table.index[-1]
        row = table.loc[at]
        sentences.append(
            f"By working language, the soft share in the intermediate layers is {row['proportion']:.2f} at"
            f" step {at:,} ({row['low']:.2f} to {row['high']:.2f})."
        )
    if apart is not None:
        resolved = np.count_nonzero((apart["low"] > 0) | (apart["high"] < 0))
        sentences.append(
            f"On log-linear fits the two differ by δ = {apart['delta'].min():+.2f} to"
            f" {apart['delta'].max():+.2f}; its interval leaves out zero at {resolved} of {len(apart)} steps."
        )
    if loss is not None:
        sentences.append(f"{loss.caveat_}.")
    return sentences


def status_of_stages(stages: Mapping[str, StageDetector]) -> Status:
    if any(found.rises_and_falls_ for found in stages.values()):
        return "rise and fall resolved", "yes"
    if any(found.resolved_ for found in stages.values()):
        return "no rise and fall resolved", "no"
    return ("not resolvable" if stages else "not available"), "open"


def status_of_working(share: PivotShare | None) -> Status:
    if share is None or not (share.steps_ > 0).any():
        return "not available", "open"
    if not share.decoded_:
        return "not measured", "open"
    if len(share.above_nulls("cells", prompts="emitted")):
        return "above its nulls", "yes"
    if len(share.above_nulls("cells")):
        return f"above its nulls, but not while {shown(share.target)} is written", "open"
    return "not outside its null", "no"


def status_of_mix(recommendation: Recommendation | None) -> Status:
    if recommendation is None:
        return "not available", "open"
    if recommendation.mix is None:
        return "refused", "no"
    decision = recommendation.mix.decision or "recommended"
    return decision, "yes" if decision == "change" else "open"


def status_of_comparison(comparison: ArmComparison | None) -> Status:
    if comparison is None:
        return "not done", "open"
    gains = set(comparison.differences_["gain"])
    if len(gains) > 1:
        return "mixed", "open"
    (gain,) = gains
    return gain, {"gain": "yes", "loss": "no"}.get(gain, "open")


def reasons(analysis: Analysis, *topics: str) -> list[str]:
    """Notes of the analysis that mention a topic."""
    return [note for note in analysis.notes if any(topic in note.lower() for topic in topics)]


def _rate(row: pd.Series) -> str:
    return f"{row['rate']:.1%} ({row['low']:.1%} to {row['high']:.1%})"
