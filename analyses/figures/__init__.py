"""Figures: each takes results and gives back a plotly figure, for a notebook as for the report."""

from babelscope.analyses.figures.comparison import comparison_figure
from babelscope.analyses.figures.direction_effect import direction_effect_figure, layer_effect_figure
from babelscope.analyses.figures.layer_map import layer_map_figure
from babelscope.analyses.figures.lens_table import lens_table_figure, some_steps
from babelscope.analyses.figures.linear_probes import linear_probes_figure
from babelscope.analyses.figures.losses import losses_figure
from babelscope.analyses.figures.mix import mix_figure
from babelscope.analyses.figures.mix_sensitivity import mix_sensitivity_figure
from babelscope.analyses.figures.neuron_flow import (
    neuron_flow_figure,
    neuron_layers_figure,
    neuron_origin_figure,
)
from babelscope.analyses.figures.neuron_life import neuron_births_figure, neuron_identity_figure
from babelscope.analyses.figures.neurons import neurons_figure
from babelscope.analyses.figures.proportion import proportion_figure
from babelscope.analyses.figures.score_validity import score_validity_figure
from babelscope.analyses.figures.scores import scores_figure
from babelscope.analyses.figures.set_effects import set_effects_figure
from babelscope.analyses.figures.stage_votes import stage_votes_figure
from babelscope.analyses.figures.stages import stages_figure
from babelscope.analyses.figures.working_language import (
    decoding_figure,
    working_language_figure,
    working_languages_figure,
)

__all__ = [
    "comparison_figure",
    "decoding_figure",
    "direction_effect_figure",
    "layer_effect_figure",
    "layer_map_figure",
    "lens_table_figure",
    "linear_probes_figure",
    "losses_figure",
    "mix_figure",
    "mix_sensitivity_figure",
    "neuron_births_figure",
    "neuron_flow_figure",
    "neuron_identity_figure",
    "neuron_layers_figure",
    "neuron_origin_figure",
    "neurons_figure",
    "proportion_figure",
    "score_validity_figure",
    "scores_figure",
    "set_effects_figure",
    "some_steps",
    "stage_votes_figure",
    "stages_figure",
    "working_language_figure",
    "working_languages_figure",
]
