"""Figures hold the numbers they are given, where a reader looks for them, with intervals and nulls."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from babelscope.analyses import figures
from babelscope.analyses.figures.learning_rate import NAME as RATE
from babelscope.analyses.figures.mix_sensitivity import mix_sensitivity_figure
from babelscope.analyses.figures.stages import BEST, BREAKS, FITTED
from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.steps import band, curve, step_panels
from babelscope.analyses.figures.style import PIVOT, TARGET
from babelscope.analyses.figures.working_language import ELSEWHERE, RANDOM_MODEL, RANDOM_SETS
from babelscope.analyses.nearest_mix import Limits
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector
from tests.analyses.synthetic import STEPS, babel
from tests.analyses.test_mix import B, run
from tests.analyses.test_recommendation import advise

NAMES = {"pivot": "python", "target": "php"}


@pytest.fixture(scope="module")
def analysis():
    return babel()


def named(figure, name):
    """Traces whose name begins so."""
    return [trace for trace in figure.data if (trace.name or "").startswith(name)]


def known(values):
    values = np.asarray(values, float)
    return values[~np.isnan(values)]


def ends(trace, axis="y"):
    """Low and high ends of a trace's intervals."""
    values, error = np.asarray(trace[axis], float), trace[f"error_{axis}"]
    return known(values - np.asarray(error.arrayminus)), known(values + np.asarray(error.array))


# --- the axis


def test_trained_steps_are_at_their_logarithm_and_step_0_is_left_of_them():
    axis = StepAxis(STEPS)
    at = axis.at(STEPS)
    np.testing.assert_allclose(at[1:], np.log10(STEPS[1:]))
    assert axis.range[0] < at[0] < at[1]


def test_step_0_has_its_own_label_and_no_line_crosses_the_break(analysis):
    trace = named(figures.losses_figure(analysis.losses, **NAMES), "PHP")[0]
    figure, _ = step_panels(STEPS, [["one"]], heights=[100], history=None)
    assert figure.layout.xaxis.ticktext[0] == "0"
    assert "//" in [note.text for note in figure.layout.annotations]
    assert np.isnan(trace.y[1])  # between step 0 and the first trained step
    assert not np.isnan(trace.y[[0, 2]]).any()


def test_a_band_at_step_0_is_a_bar_of_its_own_at_that_step():
    axis = StepAxis(STEPS)
    table = pd.DataFrame({"step": [0, STEPS[1], STEPS[2]], "low": [0.1, 0.3, 0.4], "high": [0.2, 0.5, 0.6]})
    drawn = band(axis, table, low="low", high="high", name="null", colour=PIVOT)
    (gap,) = np.flatnonzero(np.isnan(drawn.y))
    assert np.isnan(drawn.x[gap])
    left, right = min(drawn.x[:gap]), max(drawn.x[:gap])
    assert axis.range[0] < left < axis.zero < right < axis.first
    np.testing.assert_allclose(drawn.y[:gap], [0.1, 0.2, 0.2, 0.1])
    np.testing.assert_allclose(drawn.y[gap + 1 :], [0.3, 0.4, 0.6, 0.5])


def test_without_step_0_there_is_no_break():
    figure, _ = step_panels(STEPS[1:], [["one"]], heights=[100], history=None)
    assert "0" not in figure.layout.xaxis.ticktext
    assert "//" not in [note.text for note in figure.layout.annotations]


@pytest.mark.parametrize("last", [800, 50_000, 10_000_000])
def test_labels_of_any_run_are_some_and_not_too_many(last):
    _, labels = StepAxis(np.array([0, 20, last])).ticks(most=6)
    assert 2 <= len(labels) <= 8


def test_the_learning_rate_is_under_every_column(analysis):
    figure = figures.scores_figure(analysis.scores, history=analysis.history, **NAMES)
    strips = named(figure, RATE)
    assert len(strips) == 2
    logged = analysis.history[analysis.history["step"].between(25, 800)]
    np.testing.assert_allclose(strips[0].y, logged["learning_rate"])
    np.testing.assert_allclose(strips[0].x, np.log10(logged["step"]))


@pytest.mark.parametrize("history", [None, pd.DataFrame(), pd.DataFrame({"step": [10], "loss": [1.0]})])
def test_a_run_without_a_logged_rate_has_no_strip(analysis, history):
    assert not named(figures.losses_figure(analysis.losses, history=history, **NAMES), RATE)


def test_an_undefined_value_leaves_a_hole_and_not_a_zero():
    table = pd.DataFrame({"step": [1, 10], "y": [np.nan, 0.5], "low": [np.nan, 0.4], "high": [np.nan, 0.6]})
    trace = curve(StepAxis(np.array([1, 10])), table, y="y", name="a", colour=PIVOT)
    assert np.isnan(trace.y[0])
    assert trace.y[1] == 0.5


# --- scores and stages


def test_every_group_of_both_languages_is_there_with_its_wilson_interval(analysis):
    figure = figures.scores_figure(analysis.scores, **NAMES)
    assert len(figure.data) == len(analysis.scores[["language", "group"]].drop_duplicates())
    rows = analysis.scores.query("language == 'php' and group == 'pivot only'")
    trace = named(figure, "only Python's text answers")[0]
    np.testing.assert_allclose(known(trace.y), rows["solved"] / rows["total"])
    z, share = norm.ppf(0.975), (rows["solved"] / rows["total"]).to_numpy()
    for end in ends(trace):  # Wilson's ends are where the share is z standard errors of the end away
        np.testing.assert_allclose((share - end) ** 2, z**2 * end * (1 - end) / rows["total"], atol=1e-9)


def test_colour_tells_whose_language_it_is_in_every_figure(analysis):
    losses = figures.losses_figure(analysis.losses, **NAMES)
    neurons = figures.neurons_figure(analysis.neurons, **NAMES)
    for figure in (losses, neurons):
        assert {trace.line.color for trace in named(figure, "Python")} == {PIVOT}
        assert {trace.line.color for trace in named(figure, "PHP")} == {TARGET}


def test_stages_are_shaded_from_their_first_to_their_last_step_and_named(analysis):
    found = analysis.stages["pivot knowledge"]
    assert found.stages_, "the synthetic curve must have stages for this test"
    figure = figures.stages_figure({"pivot knowledge": found}, **NAMES)
    shaded = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [shape.name for shape in shaded] == [one.name for one in found.stages_]
    reach = np.log10([(one.start_step, one.end_step) for one in found.stages_])
    np.testing.assert_allclose([(shape.x0, shape.x1) for shape in shaded], reach)
    written = {note.text for note in figure.layout.annotations}
    assert {one.name for one in found.stages_} <= written


def test_breaks_and_the_best_checkpoint_have_their_intervals(analysis):
    found = analysis.stages["pivot knowledge"]
    figure = figures.stages_figure({"pivot knowledge": found}, **NAMES)
    (breaks,), (best,) = named(figure, BREAKS), named(figure, BEST)
    np.testing.assert_allclose(breaks.x, np.log10([one.step for one in found.breaks_]))
    low, high = ends(breaks, "x")
    np.testing.assert_allclose(low, np.log10([one.low for one in found.breaks_]))
    np.testing.assert_allclose(high, np.log10([one.high for one in found.breaks_]))
    assert best.x[0] == pytest.approx(np.log10(found.best_step_))
    np.testing.assert_allclose(np.ravel(ends(best, "x")), np.log10(found.best_interval_))


def test_the_fitted_curve_and_its_band_are_drawn_where_they_are_defined(analysis):
    found = analysis.stages["score"]
    figure = figures.stages_figure({"score": found}, **NAMES)
    line = next(trace for trace in named(figure, FITTED) if trace.fill is None)
    area = next(trace for trace in named(figure, FITTED) if trace.fill == "toself")
    np.testing.assert_allclose(line.y, found.fitted_[1:])
    assert len(area.x) == 2 * (len(STEPS) - 1)
    assert max(area.y) == pytest.approx(np.nanmax(found.band_))


def test_a_signal_that_is_not_resolvable_has_no_stages_and_says_so():
    rng = np.random.default_rng(0)
    noise = ScoreCurve.from_counts(STEPS, rng.binomial(12, 0.3, len(STEPS)), 12)
    found = StageDetector(draws=199).fit(noise)
    assert not found.resolved_, "12 problems must not resolve anything"
    figure = figures.stages_figure({"score": found}, **NAMES)
    assert not [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert "no stages: not resolvable" in {note.text for note in figure.layout.annotations}
    assert found.best_step_ is None
    assert not named(figure, BEST)


def test_the_working_language_lies_below_the_stages_over_the_same_steps(analysis):
    figure = figures.stages_figure(analysis.stages, working=analysis.working.table_, **NAMES)
    cells = analysis.working.rows("cells")
    (below,) = named(figure, "Python")
    np.testing.assert_allclose(known(below.y), cells["estimate"])
    assert below.xaxis == f"x{len(analysis.stages) + 1}"


# --- losses, working language, neurons


def test_losses_have_their_intervals_and_bits_per_byte_on_hovering(analysis):
    rows = analysis.losses.query("language == 'php'")
    (trace,) = named(figures.losses_figure(analysis.losses, **NAMES), "PHP")
    np.testing.assert_allclose(known(trace.y), rows["nats"])
    low, high = ends(trace)
    np.testing.assert_allclose(low, rows["low"])
    np.testing.assert_allclose(high, rows["high"])
    assert f"{rows['bits_per_byte'].iloc[-1]:.3f} bits per byte" in trace.hovertemplate[-1]


def test_every_statistic_of_the_working_language_is_beside_its_three_nulls(analysis):
    figure = figures.working_language_figure(analysis.working.table_, **NAMES)
    assert len(named(figure, "Python")) == 4
    for name in (RANDOM_SETS, ELSEWHERE, RANDOM_MODEL):
        assert len(named(figure, name)) == 4
    soft = analysis.working.rows("soft")
    band = next(trace for trace in named(figure, RANDOM_SETS) if trace.xaxis == "x3")
    at_zero, trained = (soft.query(f"step {which} 0") for which in ("==", ">"))
    assert (soft["step"] == 0).sum() == 1
    assert sorted(known(band.y)) == pytest.approx(
        sorted(
            [*trained["random_sets_low"], *trained["random_sets_high"]]
            + 2 * [*at_zero["random_sets_low"], *at_zero["random_sets_high"]]
        )
    )
    elsewhere = next(trace for trace in named(figure, ELSEWHERE) if trace.xaxis == "x3")
    np.testing.assert_allclose(elsewhere.y, soft["elsewhere"])


def test_what_else_is_decoded_is_beside_the_nulls_that_it_has(analysis):
    figure = figures.decoding_figure(analysis.working.table_, **NAMES)
    for axis, statistic in (("x", "mass"), ("x2", "other"), ("x3", "rank"), ("x4", "entropy")):
        (trace,) = (one for one in named(figure, "Python") if one.xaxis == axis)
        np.testing.assert_allclose(known(trace.y), analysis.working.estimate(statistic))
    (band,) = (one for one in named(figure, RANDOM_SETS) if one.xaxis == "x4")
    assert len(band.y) == 0, "no random sets for the entropy"


def test_only_what_clears_every_null_is_filled(analysis):
    figure = figures.working_language_figure(analysis.working.table_, **NAMES)
    table = analysis.working.rows("soft")
    assert 0 < table["outside_null"].sum() < len(table), "both kinds are needed"
    trace = next(one for one in named(figure, "Python") if one.xaxis == "x3")
    filled = np.array([colour == PIVOT for colour in trace.marker.color])[~np.isnan(trace.y)]
    np.testing.assert_array_equal(filled, table["outside_null"])


def test_the_maps_are_layers_by_ordered_steps_with_the_intermediate_layers_marked(analysis):
    share = analysis.working
    figure = figures.layer_map_figure(share.layers_, intermediate=share.intermediate_, **NAMES)
    cell = share.layers_.query("step == 300 and layer == 4").iloc[0]
    at = STEPS.tolist().index(300)
    for trace, column in zip(figure.data, ("soft", "pivot_cells", "target_cells"), strict=True):
        assert trace.z[3][at] == pytest.approx(cell[column])
        np.testing.assert_array_equal(trace.x, np.arange(len(STEPS)))  # equally wide, in order
        np.testing.assert_array_equal(trace.customdata[0], STEPS)
    lines = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert {shape.y0 for shape in lines} == {max(share.intermediate_) + 0.5}


def test_a_switch_is_drawn_above_its_layer_where_it_is_resolved(analysis):
    table = pd.DataFrame(
        {
            "step": STEPS[:3],
            "layer": [np.nan, 2.0, 3.0],
            "low": [0, 1, 3],
            "high": [6, 3, 4],
            "resolved": [False, True, True],
        }
    )
    share = analysis.working
    figure = figures.layer_map_figure(share.layers_, intermediate=share.intermediate_, switch=table, **NAMES)
    (trace,) = (one for one in figure.data if one.type == "scatter")
    assert list(trace.x) == [1, 2]
    assert list(trace.y) == [2.5, 3.5]
    assert (list(trace.error_y.arrayminus), list(trace.error_y.array)) == ([1, 0], [1, 1])


def test_neurons_are_counted_by_both_rules_over_the_null(analysis):
    figure = figures.neurons_figure(analysis.neurons, **NAMES)
    counts = {trace.xaxis: known(trace.y) for trace in named(figure, "PHP")}
    for axis, rule in (("x", "paper"), ("x2", "frozen")):
        rows = analysis.neurons.query(f"rule == '{rule}' and language == 'php'")
        np.testing.assert_array_equal(counts[axis], rows["count"])
    (_, frozen) = named(figure, "null, PHP")
    assert max(known(frozen.y)) == rows["null_high"].max()  # of the rule that the loop ended with


# --- proportion, mix, comparison


def test_both_estimates_of_the_proportion_are_there_with_band_alpha_and_beta(analysis):
    loss, language = analysis.loss_proportion, analysis.language_proportion
    figure = figures.proportion_figure(loss, language, pivot="python", disagreement=analysis.disagreement)
    by_loss, by_language = (known(named(figure, name)[0].y) for name in ("by held-out", "by working"))
    within = (loss.proportion_ > -0.15) & (loss.proportion_ < 1.25)
    np.testing.assert_allclose(by_loss[within], loss.proportion_[within])
    assert by_loss.max() == 1.25  # what is beyond the axis stays on its edge, and is told as it is
    assert named(figure, "by held-out")[0].customdata[0][0] == pytest.approx(loss.proportion_[0])
    np.testing.assert_allclose(by_language, language.proportion_)
    marked = {note.text: note.x for note in figure.layout.annotations if note.text in ("α", "β")}
    assert marked["α"] == pytest.approx(np.log10(loss.alpha_step_))
    assert marked["β"] == pytest.approx(np.log10(loss.beta_step_))
    assert named(figure, "other α")[0].fill == "toself"
    np.testing.assert_allclose(named(figure, "δ")[-1].y, analysis.disagreement["delta"])


def test_one_estimate_alone_is_drawn_alone(analysis):
    figure = figures.proportion_figure(None, analysis.language_proportion, pivot="python")
    assert [trace.name for trace in figure.data] == ["by working language"]
    figure = figures.proportion_figure(analysis.loss_proportion, None, pivot="python")
    assert not named(figure, "by working")


def test_the_mix_shows_weights_tokens_and_what_is_not_known_of_them(analysis):
    found = analysis.recommendation
    figure = figures.mix_figure(found.mix, found.targets)
    weights = {trace.y[0]: trace.x[0] for trace in named(figure, "sampling weight")}
    assert weights == found.mix.weights
    spans = [(tuple(trace.x), trace.y[0]) for trace in named(figure, "interval")]
    assert (found.mix.languages["php"].weight_interval, "php") in spans
    assert (found.targets["php"].tokens_interval, "php") in spans
    assert tuple(named(figure, "band")[0].x) == found.targets["php"].tokens_band
    assert named(figure, "exists")[0].x[0] == found.targets["php"].available_tokens


def test_the_mix_is_drawn_beside_the_present_one_with_what_was_wanted_and_its_limits():
    found = advise(run(loss=1.6875), limits=Limits(floors={"php": 0.5}), present={"python": 0.8, "php": 0.2})
    figure = figures.mix_figure(found.mix, found.targets)
    present = {trace.y[0]: trace.x[0] for trace in named(figure, "present weight")}
    assert present == {"python": 0.8, "php": 0.2}
    wanted = {trace.y[0]: trace.x[0] for trace in named(figure, "wanted weight")}
    assert wanted == pytest.approx({"python": 0.6875, "php": 0.3125})
    (limit,) = [trace for trace in named(figure, "allowed") if trace.x]
    assert (limit.x, limit.y) == ((0.5,), ("php",))


def test_each_input_of_the_mix_has_a_bar_over_the_range_of_each_targets_weight():
    found = advise(run("php", loss=1.6875), run("csharp", loss=1.5, available=16 * B))
    figure = mix_sensitivity_figure(found.sensitivity, found.mix)
    csharp, php = named(figure, "range")
    assert list(php.y) == [swing.name for swing in found.sensitivity]
    np.testing.assert_allclose(php.base, [swing.weights["php"][0] for swing in found.sensitivity])
    ends = np.add(csharp.base, csharp.x)
    np.testing.assert_allclose(ends, [swing.weights["csharp"][1] for swing in found.sensitivity])
    lines = [shape.x0 for shape in figure.layout.shapes]
    assert lines == [found.mix.weights["csharp"], found.mix.weights["php"]]


def test_every_run_is_a_dot_and_every_difference_has_its_interval(analysis):
    found = analysis.comparison
    figure = figures.comparison_figure(found, **NAMES)
    runs = [score for trace in named(figure, "one training run") for score in trace.x]
    assert sorted(runs) == pytest.approx(sorted(found.scores_["score"]))
    (trace,) = named(figure, "against uniform")
    rows = pd.concat([found.differences_, found.groups_]).query("other == 'uniform'")
    np.testing.assert_allclose(trace.x, rows["difference"])
    low, high = ends(trace, "x")
    np.testing.assert_allclose(low, rows["low"])
    np.testing.assert_allclose(high, rows["high"])
    hollow = [colour == "white" for colour in trace.marker.color]
    assert hollow == ((rows["low"] <= 0) & (rows["high"] >= 0)).tolist()


def test_nothing_in_a_name_reaches_plotly_as_markup(analysis):
    evil = '<a href="http://x">y</a>'
    losses = analysis.losses.replace({"language": {"python": evil}})
    figure = figures.losses_figure(losses, pivot=evil, target="php")
    assert evil not in str(figure.to_dict())
    assert "&lt;a href" in named(figure, "&lt;")[0].name
