"""The page of a series' neurons, and the same sections for the report of all that a series shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from babelscope.analyses import figures
from babelscope.analyses.neuron_analysis import NeuronAnalysis
from babelscope.analyses.report import words
from babelscope.analyses.report.page import Answer, Section, write_page
from babelscope.analyses.report.sections import captioned
from babelscope.core.languages import shown


def neuron_report(found: NeuronAnalysis, path: str | Path) -> Path:
    """Write the page of `found`; the file appears whole or not at all."""
    series, names = found.asked.series, found.asked.languages
    pivot, target = (shown(name) for name in names.values())
    history = pd.DataFrame(series.history)
    counted = Section(
        says=words.neurons(found.counts),
        figure=figures.neurons_figure(found.counts, **names, history=history),
        **captioned("neurons", **names),
    )
    return write_page(
        path,
        title=f"Neurons, {pivot} → {target}: {series.directory.name}",
        heading=f"Neurons, {pivot} → {target}",
        series=f"Series {series.directory.name} · {len(series)} checkpoints, steps {series.steps[0]:,} to"
        f" {series.steps[-1]:,}",
        answers=_answers(found),
        parts=[counted, *neuron_sections(found, history)],
        notes=[*(f"{one.kind}: {one.detail}" for one in found.findings), *found.notes],
        settings=_settings(found),
    )


def neuron_sections(found: NeuronAnalysis, history: pd.DataFrame) -> Iterator[Section]:
    """What a report shows of neurons, besides how many there are."""
    names = found.asked.languages
    over_steps: dict[str, Any] = {**names, "history": history}

    effects, drawn, said = found.effects, None, []
    if effects is not None:
        drawn = figures.set_effects_figure(effects, **over_steps)
        said = [effects.verdict_, *([effects.choice_verdict_] if effects.choice_verdict_ else [])]
    yield Section(says=said, figure=drawn, **captioned("neuron-effects", missing=drawn is None, **names))

    validity, drawn, said = found.validity, None, []
    if validity is not None:
        drawn, said = figures.score_validity_figure(validity.table_), validity.sentences_
    yield Section(says=said, figure=drawn, **captioned("neuron-scores", **names))

    life = found.life
    if life is None:
        return
    yield Section(
        says=[life.verdict_],
        figure=figures.neuron_births_figure(life.counts_, **over_steps),
        **captioned("neuron-births", **names),
    )
