"""babelscope: which language a multilingual code model thinks in, and how much of each to train it on.

from babelscope import Series, sweep, Questions, analyse, report

series = Series.open("runs/php", pivot="python", target="php")
questions = Questions.of(series)
results = sweep(series, questions.measures(series))     # computed once, then read
analysis = analyse(results, questions)
report(analysis, "report.html")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from babelscope.analyses.analysis import Analysis, analyse
    from babelscope.analyses.best_mix import recommend_mix
    from babelscope.analyses.evaluate import Evaluation, evaluate
    from babelscope.analyses.export import export
    from babelscope.analyses.mix import recommend
    from babelscope.analyses.nearest_mix import Limits
    from babelscope.analyses.neuron_analysis import NeuronAnalysis, analyse_neurons, measure_neurons
    from babelscope.analyses.neuron_explorer import Neurons, explore
    from babelscope.analyses.neuron_questions import NeuronQuestions
    from babelscope.analyses.questions import Questions
    from babelscope.analyses.report import report
    from babelscope.analyses.stages import ScoreCurve, StageDetector
    from babelscope.analyses.sweep import Results, sweep
    from babelscope.checkpoints.pretrain import pretrain
    from babelscope.checkpoints.recipe import Recipe
    from babelscope.checkpoints.series import Series
    from babelscope.core.errors import InputError
    from babelscope.corpora.babel import BabelWorld
    from babelscope.corpora.mix import Mix
    from babelscope.interp.loss import LanguageLoss
    from babelscope.interp.neurons import TransferringNeurons
    from babelscope.interp.problem_scores import Completions, ProblemScores
    from babelscope.interp.streams import ProblemStream, PromptStream, TextStream
    from babelscope.interp.top_activations import TopActivations
    from babelscope.interp.working_language import WorkingLanguage

# Found when asked for: importing the package costs nothing, and reading stored results needs no torch.
_HOMES = {
    "Analysis": "analyses.analysis",
    "analyse": "analyses.analysis",
    "Evaluation": "analyses.evaluate",
    "evaluate": "analyses.evaluate",
    "export": "analyses.export",
    "recommend": "analyses.mix",
    "recommend_mix": "analyses.best_mix",
    "Limits": "analyses.nearest_mix",
    "NeuronAnalysis": "analyses.neuron_analysis",
    "analyse_neurons": "analyses.neuron_analysis",
    "measure_neurons": "analyses.neuron_analysis",
    "Neurons": "analyses.neuron_explorer",
    "explore": "analyses.neuron_explorer",
    "NeuronQuestions": "analyses.neuron_questions",
    "Questions": "analyses.questions",
    "report": "analyses.report",
    "ScoreCurve": "analyses.score_curve",
    "StageDetector": "analyses.stages",
    "Results": "analyses.sweep",
    "sweep": "analyses.sweep",
    "pretrain": "checkpoints.pretrain",
    "Recipe": "checkpoints.recipe",
    "Series": "checkpoints.series",
    "InputError": "core.errors",
    "BabelWorld": "corpora.babel",
    "Mix": "corpora.mix",
    "Completions": "interp.problem_scores",
    "ProblemScores": "interp.problem_scores",
    "LanguageLoss": "interp.loss",
    "TransferringNeurons": "interp.neurons",
    "ProblemStream": "interp.streams",
    "PromptStream": "interp.streams",
    "TextStream": "interp.streams",
    "TopActivations": "interp.top_activations",
    "WorkingLanguage": "interp.working_language",
}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'babelscope' has no attribute {name!r}")
    return getattr(import_module(f"babelscope.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
