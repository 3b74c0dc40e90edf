"""Figures of neurons over training hold the numbers of their tables, with chance and intervals."""

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses.figures.neuron_flow import (
    CHANCE,
    INSIDE,
    neuron_flow_figure,
    neuron_layers_figure,
    neuron_origin_figure,
)
from babelscope.analyses.figures.neuron_life import (
    BORN,
    CEILING,
    DIED,
    bar_widths,
    neuron_births_figure,
    neuron_identity_figure,
)
from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.analyses.figures.style import PIVOT, TARGET
from babelscope.analyses.neuron_flow import AT_START, EARLIER
from babelscope.analyses.neuron_life import NeuronLife

NAMES = {"pivot": "python", "target": "php"}
STEPS = np.array([0, 10, 30, 100, 300])


def drift(rng, *, halves):
    """Sets that move through the neurons of four layers; half of PHP's were Python's."""
    members = np.zeros((len(STEPS), 2, 4, 100), bool)
    for at in range(len(STEPS)):
        members[at, 0, 0, 5 * at : 5 * at + 20] = True
        members[at, 1, at // 2, 10 * at : 10 * at + 12] = True
    scores = members + rng.normal(size=members.shape)
    dims, coords = ("step", "language", "layer", "neuron"), {"step": STEPS, "language": ["python", "php"]}
    found = np.stack([members & (rng.random(members.shape) < 0.9) for _ in range(2)])
    of_halves = xr.DataArray(found, dims=("half", *dims), coords=coords) if halves else None
    arrays = (xr.DataArray(values, dims=dims, coords=coords) for values in (members, scores))
    return NeuronLife(*arrays, **NAMES, halves=of_halves)


@pytest.fixture(scope="module")
def life():
    return drift(np.random.default_rng(0), halves=True)


def titles(figure):
    return {note.text.removeprefix("<b>").removesuffix("</b>") for note in figure.layout.annotations}


def traces(figure, *, name, axis=""):
    """Those whose name begins so, in the panel of an x axis."""
    return [
        one for one in figure.data if (one.name or "").startswith(name) and (one.xaxis or "x") == f"x{axis}"
    ]


def known(values):
    values = np.asarray(values, float)
    return values[~np.isnan(values)]


def ends(trace):
    values = np.asarray(trace.y, float)
    return known(values - np.asarray(trace.error_y.arrayminus)), known(
        values + np.asarray(trace.error_y.array)
    )


# Panels are numbered by row: 1–3 sets, 4–6 halves, 7–9 ranks; the columns are before, first, last.
ROWS = {
    1: ("jaccard", "low", "high"),
    4: ("across", "across_low", "across_high"),
    7: ("rank", "rank_low", "rank_high"),
}


@pytest.mark.parametrize("first", ROWS)
@pytest.mark.parametrize(("column", "compared"), list(enumerate(("before", "first", "last"))))
def test_identity_is_drawn_with_its_interval_in_the_panel_of_what_it_is_compared_with(
    life, first, column, compared
):
    figure = neuron_identity_figure(life.identity_, **NAMES)
    axis = "" if first + column == 1 else first + column
    (trace,) = traces(figure, name="PHP", axis=axis)
    rows = life.identity_.query("language == 'php' and compared == @compared")
    value, low, high = ROWS[first]
    np.testing.assert_allclose(known(trace.y), rows[value])
    np.testing.assert_allclose(ends(trace), rows[[low, high]].to_numpy().T)
    assert trace.line.color == TARGET


def test_chance_and_ceiling_are_drawn_beside_identity(life):
    figure = neuron_identity_figure(life.identity_, **NAMES)
    rows = life.identity_.query("language == 'php' and compared == 'first'")
    (chance,) = traces(figure, name="null, PHP", axis=2)
    assert {*rows["chance_low"], *rows["chance_high"]} == set(known(chance.y))
    (ceiling,) = traces(figure, name=f"{CEILING}, PHP", axis=5)
    np.testing.assert_allclose(ceiling.y, rows["ceiling"])


def test_without_halves_of_the_text_there_is_no_row_for_them():
    found = drift(np.random.default_rng(0), halves=False)
    figure = neuron_identity_figure(found.identity_, **NAMES)
    assert not [name for name in titles(figure) if "halves" in name]
    assert not traces(figure, name=CEILING)


def test_births_go_up_and_deaths_go_down(life):
    figure = neuron_births_figure(life.counts_, **NAMES)
    counts = life.counts_.query("language == 'php'")
    (born,), (died,) = (traces(figure, name=f"PHP, {name}", axis=4) for name in (BORN, DIED))
    np.testing.assert_allclose(born.y, counts["births"])
    np.testing.assert_allclose(died.y, -counts["deaths"])
    assert counts["births"].sum() > 0 < counts["deaths"].sum()
    assert born.marker.color == TARGET


@pytest.mark.parametrize("steps", [STEPS, np.arange(40), np.array([10, 1000])])
def test_bars_do_not_overlap_and_stay_on_the_axis(steps):
    axis = StepAxis(steps)
    at, half = axis.at(steps), bar_widths(axis, steps) / 2
    assert ((at + half)[:-1] < (at - half)[1:]).all()
    assert axis.range[0] < (at - half)[0]
    assert (at + half)[-1] < axis.range[1]


def test_layers_are_a_map_in_the_languages_colour_with_dots_on_what_chance_gives(life):
    figure = neuron_layers_figure(life.layers_, life.parts_, **NAMES)
    (drawn,) = [one for one in traces(figure, name="PHP", axis=2) if one.type == "heatmap"]
    rows = life.layers_.query("language == 'php'")
    np.testing.assert_allclose(drawn.z, rows.pivot(index="layer", columns="step", values="share"))
    assert drawn.colorscale[-1][1] == TARGET
    assert len(drawn.x) == len(STEPS) + 1  # edges
    (dots,) = traces(figure, name=INSIDE, axis=2)
    assert len(dots.x) == (rows["verdict"] == "not resolvable").sum()
    assert 0 < len(dots.x) < len(rows)


def test_the_ends_of_the_layers_are_under_the_map_with_chance(life):
    figure = neuron_layers_figure(life.layers_, life.parts_, **NAMES)
    rows = life.parts_.query("language == 'python' and part == 'bottom and top'")
    (shares,) = traces(figure, name="Python (filled", axis=3)
    np.testing.assert_allclose(known(shares.y), rows["share"])
    (chance,) = traces(figure, name=CHANCE, axis=3)
    assert {*rows["chance_low"], *rows["chance_high"]} == set(known(chance.y))


def test_flow_stacks_each_set_by_where_it_was_at_first(life):
    figure = neuron_flow_figure(life.flow_, **NAMES)
    members = life.counts_.query("step > 0 and language == 'php'")["members"]
    stacked = [one for one in figure.data if one.xaxis == "x2"]
    np.testing.assert_allclose(np.sum([one.y for one in stacked], axis=0), members)
    (from_pivot,) = traces(figure, name="at first only Python", axis=2)
    rows = life.flow_.query("compared == 'first' and was == 'pivot' and `is` in ('target', 'both')")
    np.testing.assert_allclose(from_pivot.y, rows.groupby("step")["count"].sum())
    assert from_pivot.marker.color == PIVOT
    assert np.sum(from_pivot.y) > 0


@pytest.mark.parametrize(("axis", "reference"), [("", AT_START), (2, EARLIER)])
def test_the_origin_is_drawn_over_its_chance(life, axis, reference):
    figure = neuron_origin_figure(life.origin_, **NAMES)
    rows = life.origin_.query("reference == @reference")
    (shares,) = traces(figure, name="new neurons of PHP", axis=axis)
    np.testing.assert_allclose(known(shares.y), rows["share"])
    filled = np.asarray(shares.marker.color) != "white"
    assert filled.tolist() == (rows["verdict"] != "not resolvable").tolist()
    (chance,) = traces(figure, name=CHANCE, axis=axis)
    assert {*rows["chance_low"], *rows["chance_high"]} == set(known(chance.y))


def test_every_curve_is_named_once_in_the_legend(life):
    k = NAMES
    for figure in (
        neuron_identity_figure(life.identity_, **k),
        neuron_layers_figure(life.layers_, life.parts_, **k),
        neuron_flow_figure(life.flow_, **k),
        neuron_origin_figure(life.origin_, **k),
    ):
        shown = [one.name for one in figure.data if one.showlegend and one.type != "heatmap"]
        assert len(shown) == len(set(shown)) > 1


def test_a_series_without_neurons_can_be_drawn():
    dims, coords = ("step", "language", "layer", "neuron"), {"step": STEPS, "language": ["python", "php"]}
    none = xr.DataArray(np.zeros((len(STEPS), 2, 3, 10), bool), dims=dims, coords=coords)
    found = NeuronLife(none, none.astype(float), **NAMES)
    assert not known(
        np.concatenate([one.y for one in neuron_origin_figure(found.origin_, **NAMES).data])
    ).size
    neuron_identity_figure(found.identity_, **NAMES)
    neuron_births_figure(found.counts_, **NAMES)
    neuron_layers_figure(found.layers_, found.parts_, **NAMES)
    neuron_flow_figure(found.flow_, **NAMES)


def test_names_of_languages_cannot_be_markup(life):
    renamed = life.identity_.assign(language=life.identity_["language"].replace("php", "<i>x"))
    figure = neuron_identity_figure(renamed, pivot="python", target="<i>x")
    assert not [one.name for one in figure.data if "<i>" in one.name]
