"""The page of a series' neurons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from babelscope.analyses import figures
from babelscope.analyses.neuron_analysis import NeuronAnalysis
from babelscope.analyses.neuron_questions import ABLATED_TOKENS, EXACT_TOKENS
from babelscope.analyses.report import words
from babelscope.analyses.report.neuron_sections import neuron_sections
from babelscope.analyses.report.page import Answer, captioned, write_page
from babelscope.analyses.set_effects import JUDGED, Finding, SetEffects
from babelscope.core.languages import shown


def neuron_report(found: NeuronAnalysis, path: str | Path) -> Path:
    """Write the page.

    Parameters
    ----------
    found
        Of one series.
    path
        Of the HTML file; it appears whole or not at all.

    Returns
    -------
    Path
        The file.
    """
    asked, series = found.asked, found.asked.series
    names = {"pivot": shown(asked.pivot), "target": shown(asked.target)}
    heading = f"Neurons, {names['pivot']} → {names['target']}"
    history = pd.DataFrame(series.history)
    counted = captioned(
        "neurons",
        says=words.neurons(found.counts),
        figure=figures.neurons_figure(found.counts, pivot=asked.pivot, target=asked.target, history=history),
        **names,
    )
    return write_page(
        path,
        title=f"{heading}: {series.directory.name}",
        heading=heading,
        series=f"Series {series.directory.name} · {len(series)} checkpoints, steps {series.steps[0]:,} to"
        f" {series.steps[-1]:,}",
        answers=_answers(found),
        parts=[counted, *neuron_sections(found, history)],
        notes=[*(f"{one.kind}: {one.detail}" for one in found.findings), *found.notes],
        settings=_settings(found),
    )


def _answers(found: NeuronAnalysis) -> Iterator[Answer]:
    last = found.selected[found.selected["step"] == found.selected["step"].max()]
    some = bool((last["count"] > 0).any())
    yield Answer(
        "neurons", "Whose they are", [found.selected_in_words()], ("found", "yes") if some else ("none", "no")
    )
    if found.effects is not None:
        yield Answer(
            "neuron-effects", "Whether they matter", [found.effects.verdict_], _status(found.effects)
        )
    if found.validity is not None:
        yield Answer(
            "neuron-scores", "Whether scores are right", found.validity.verdict_, ("measured", "open")
        )
    if found.life is not None:
        yield Answer("neuron-births", "Over training", [found.life.verdict_], ("measured", "open"))


def _status(effects: SetEffects) -> tuple[str, str]:
    table = effects.specificity_
    findings = set(table["finding"][table["mode"] == JUDGED])
    if Finding.SUPPORTED in findings:
        return "supported at some steps", "yes"
    return ("unsupported", "no") if Finding.UNSUPPORTED in findings else ("not resolvable", "open")


def _settings(found: NeuronAnalysis) -> Iterator[str]:
    asked = found.asked
    yield f"Score {asked.score.value}, rule {asked.rule.value}" + (
        f", false-discovery rate {asked.level:g}." if asked.rule.value == "fdr" else "."
    )
    yield (
        f"Held-out text: {asked.questions.tokens:,} tokens of each language, at most; sets are ablated on"
        f" {ABLATED_TOKENS:,} of them and single neurons on {EXACT_TOKENS:,}, in excerpts of many documents."
    )
