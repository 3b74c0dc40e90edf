"""What the report shows, in order: a title, what was found, a figure, and how to read it (`captions.toml`).

A section whose data are missing says why, in the analysis' own notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from babelscope.analyses import figures
from babelscope.analyses.analysis import Analysis
from babelscope.analyses.report import words
from babelscope.analyses.report.neuron_sections import neuron_sections
from babelscope.analyses.report.page import Section, captioned
from babelscope.core.languages import shown


def sections(analysis: Analysis) -> Iterator[Section]:
    """All of them, also those without data."""
    names = {"pivot": analysis.pivot, "target": analysis.target}
    over_steps = {**names, "history": analysis.history}
    working, loss, language = analysis.working, analysis.loss_proportion, analysis.language_proportion
    table = None if working is None else working.table_

    drawn = figures.stages_figure(analysis.stages, working=table, **over_steps) if analysis.stages else None
    said = [] if "learning_rate" in analysis.history else [NO_RATE]
    yield _section(analysis, "stages", said, drawn, "stages", "score")

    votes = figures.stage_votes_figure(analysis.votes, **over_steps) if analysis.votes.found_ else None
    yield _section(analysis, "stage-votes", [analysis.votes.verdict_], votes, "stages")

    drawn, said = None, []
    if analysis.scores is not None:
        drawn = figures.scores_figure(analysis.scores, **over_steps)
        said = words.scores(analysis.scores, **names)
    yield _section(analysis, "scores", said, drawn, "problem")

    drawn, said = None, []
    if analysis.losses is not None:
        drawn, said = figures.losses_figure(analysis.losses, **over_steps), words.losses(analysis.losses)
    yield _section(analysis, "losses", said, drawn, "held-out")

    drawn, said = None, []
    if working is not None:
        drawn = figures.working_language_figure(working.table_, **over_steps)
        found = words.working_language(working, since=words.peak_of_score(analysis.stages))
        said = [*analysis.cautions, *found]
    yield _section(analysis, "working-language", said, drawn, "working language", "identifier")

    drawn, said = None, []
    if working is not None and working.decoded_:
        drawn = figures.decoding_figure(working.table_, **over_steps)
        said = [*analysis.cautions, *words.decoding(working)]
    yield _section(analysis, "decoding", said, drawn, "working language", "identifier")

    drawn, said = None, []
    if working is not None and working.decoded_:
        switch = analysis.switch
        drawn = figures.layer_map_figure(
            working.layers_,
            intermediate=working.intermediate_,
            switch=switch.table_ if switch else None,
            **names,
        )
        said = [*analysis.cautions, *words.output(working), *([switch.verdict_] if switch else [])]
    yield _section(analysis, "layers", said, drawn, "working language", "identifier")

    drawn, said = None, []
    if analysis.examples is not None:
        said = analysis.cautions
        steps = figures.some_steps(analysis.examples["step"].to_numpy().tolist())
        drawn = figures.lens_table_figure(
            analysis.examples.sel(step=steps), pivot=analysis.pivot, target=analysis.target
        )
    yield _section(analysis, "lens-table", said, drawn, "lens table")

    moved, drawn, said = analysis.directions, None, []
    if moved is not None:
        drawn = figures.direction_effect_figure(moved.intermediate_, **over_steps)
        said = [moved.verdict_, moved.ablated_, moved.ceiling_]
    yield _section(analysis, "direction-effect", said, drawn, "direction")

    told, drawn, said = analysis.linear_probes, None, []
    if told is not None:
        drawn, said = figures.linear_probes_figure(told.of("matched"), chance=told.chance_), [told.verdict_]
    yield _section(analysis, "linear-probes", said, drawn, "linear probes")

    drawn, said = None, []
    if analysis.neurons is not None:
        drawn, said = figures.neurons_figure(analysis.neurons, **over_steps), words.neurons(analysis.neurons)
    yield _section(analysis, "neurons", said, drawn, "neuron")
    if analysis.further_neurons is not None:
        yield from neuron_sections(analysis.further_neurons, analysis.history)

    drawn, said = None, []
    if loss is not None or language is not None:
        drawn = figures.proportion_figure(
            loss, language, pivot=analysis.pivot, disagreement=analysis.disagreement, history=analysis.history
        )
        said = words.proportion(analysis) + words.reasons(analysis, "proportion", "log-linear")
    yield _section(analysis, "proportion", said, drawn, "proportion", "log-linear")

    found, drawn, tornado = analysis.recommendation, None, None
    if found is not None and found.mix is not None:
        drawn = figures.mix_figure(found.mix, found.targets)
        tornado = figures.mix_sensitivity_figure(found.sensitivity, found.mix) if found.sensitivity else None
    yield _section(analysis, "mix", [found.verdict] if found is not None else [], drawn, "mix")
    yield _section(analysis, "mix-sensitivity", [], tornado, "mix")

    arms, drawn, said = analysis.comparison, None, []
    if arms is not None:
        drawn = figures.comparison_figure(arms, **names)
        said = words.arms(arms) + words.trade_off(arms, **names)
    yield _section(analysis, "comparison", said, drawn, "arm", "comparison")


NO_RATE = "No learning rate was logged, so whether warm-up or decay bends these curves cannot be seen here."


def _section(
    analysis: Analysis, anchor: str, said: Sequence[str], drawn: go.Figure | None, *topics: str
) -> Section:
    """Put words and figure together; without either, the notes on `topics` say why."""
    arms = analysis.comparison
    names = {
        "pivot": shown(analysis.pivot),
        "target": shown(analysis.target),
        "recommended": arms.recommended if arms is not None else "",
        "problem_set": arms.problem_set if arms is not None else "",
    }
    reasons = words.reasons(analysis, *topics)
    return captioned(anchor, says=said, figure=drawn, reasons=reasons, **names)
