"""What a report shows of a series' neurons, besides how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from babelscope.analyses import figures
from babelscope.analyses.neuron_analysis import NeuronAnalysis
from babelscope.analyses.report.page import Section, captioned
from babelscope.core.languages import shown


def neuron_sections(found: NeuronAnalysis, history: pd.DataFrame) -> Iterator[Section]:
    """Whether the sets matter, whether the scores are right, and the sets over training."""
    over_steps: dict[str, Any] = {
        "pivot": found.asked.pivot,
        "target": found.asked.target,
        "history": history,
    }
    names = {"pivot": shown(found.asked.pivot), "target": shown(found.asked.target)}

    drawn, said = None, []
    if found.effects is not None:
        drawn = figures.set_effects_figure(found.effects, **over_steps)
        said = [found.selected_in_words(), *found.effects_in_words()]
    yield captioned("neuron-effects", says=said, figure=drawn, **names)

    validity, drawn, said = found.validity, None, []
    if validity is not None:
        drawn, said = (
            figures.score_validity_figure(
                validity.table_, pivot=found.asked.pivot, target=found.asked.target
            ),
            validity.verdict_,
        )
    yield captioned("neuron-scores", says=said, figure=drawn, **names)

    life = found.life
    if life is None:
        return
    drawings = {
        "births": figures.neuron_births_figure(life.counts_, **over_steps),
        "identity": figures.neuron_identity_figure(life.identity_, **over_steps),
        "layers": figures.neuron_layers_figure(life.layers_, life.parts_, **over_steps),
        "flow": figures.neuron_flow_figure(life.flow_, **over_steps),
        "origin": figures.neuron_origin_figure(life.origin_, **over_steps),
    }
    for topic, drawn in drawings.items():
        said = [sentence] if (sentence := life.sentences_.get(topic)) else []
        yield captioned(f"neuron-{topic}", says=said, figure=drawn, **names)
