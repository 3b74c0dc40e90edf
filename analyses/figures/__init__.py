"""Figures: each takes results and gives back a plotly figure, for a notebook as for the report."""

from babelscope.analyses.figures.comparison import comparison_figure
from babelscope.analyses.figures.layer_map import layer_map_figure
from babelscope.analyses.figures.lens_table import lens_table_figure
from babelscope.analyses.figures.losses import losses_figure
from babelscope.analyses.figures.mix import mix_figure
from babelscope.analyses.figures.neurons import neurons_figure
from babelscope.analyses.figures.proportion import proportion_figure
from babelscope.analyses.figures.scores import scores_figure
from babelscope.analyses.figures.stages import stages_figure
from babelscope.analyses.figures.working_language import working_language_figure

__all__ = [
    "comparison_figure",
    "layer_map_figure",
    "lens_table_figure",
    "losses_figure",
    "mix_figure",
    "neurons_figure",
    "proportion_figure",
    "scores_figure",
    "stages_figure",
    "working_language_figure",
]
