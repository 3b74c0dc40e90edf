"""The lens table as it is drawn: what is written where, in which colour, and that tokens stay text."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses.figures import lens_table_figure
from babelscope.analyses.figures.lens_table import DEEPEST, some_steps, visible, written
from babelscope.analyses.figures.style import INK, PIVOT, TARGET
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.series import Series
from babelscope.interp.lens_table import LensTable
from babelscope.interp.prompt_texts import ProbePrompts, Prompt, PromptTexts
from babelscope.interp.streams import PromptStream
from tests.questions import FEW, PROBES

CELL = ("step", "layer", "prompt", "position")


def table(texts, language_of, probability, *, given, following, steps=(10,), start=0):
    """One prompt's table; `texts` and the like by (layer, position), the same at every step."""
    texts = np.array(texts, dtype=object)
    ids = {text: i for i, text in enumerate(dict.fromkeys([*texts.ravel(), *given, *following]))}

    def cells(values):
        return CELL, np.broadcast_to(np.array(values)[None, :, None], (len(steps), len(texts), 1, len(given)))

    def ranked(values):
        return (*CELL, "rank"), cells(values)[1][..., None]

    def places(values):
        return ("step", "prompt", "position"), np.broadcast_to(
            np.array(values)[None, None], (len(steps), 1, len(given))
        )

    return xr.Dataset(
        {
            "token": ranked(np.vectorize(ids.get)(texts)),
            "text": ranked(texts),
            "probability": ranked(probability),
            "language_of": ranked(language_of),
            "entropy": cells(np.ones(texts.shape)),
            "given": places([ids[text] for text in given]),
            "given_text": places(np.array(given, dtype=object)),
            "next": places([ids[text] for text in following]),
            "next_text": places(np.array(following, dtype=object)),
        },
        coords={
            "step": list(steps),
            "layer": np.arange(1, len(texts) + 1),
            "position": np.arange(len(given)),
            "language": ["python", "php"],
            "concept": ("prompt", ["length"]),
            "spoken": ("prompt", ["php"]),
            "start": ("prompt", [start]),
            "prompt_text": ("prompt", ["".join(given)]),
        },
    )


def two_layers(**changes):
    given = {"given": ["$n", " ="], "following": [" =", "count"]} | changes
    return table([["len", "x"], ["count", "count"]], [[0, -1], [1, 1]], [[1.0, 0.5], [0.5, 1.0]], **given)


def colour(figure, row, column):
    """What a cell is painted, by the trace's own scale."""
    cells = figure.data[0]
    at = cells.z[row][column] / cells.zmax
    places = np.array([place for place, _ in cells.colorscale])
    shades = np.array(
        [[int(part) for part in shade[4:-1].split(",")] for _, shade in cells.colorscale], float
    )
    after = int(np.searchsorted(places, at))
    share = (at - places[after - 1]) / (places[after] - places[after - 1])
    return shades[after - 1] + share * (shades[after] - shades[after - 1])


def deep(base):
    return [255 - DEEPEST * (255 - int(base[i : i + 2], 16)) for i in (1, 3, 5)]


def test_cells_hold_the_decoded_tokens_and_above_them_what_came_next():
    cells = lens_table_figure(two_layers(), pivot="python", target="php").data[0]
    assert list(map(list, cells.text)) == [["len", "x"], ["count", "<b>count</b>"], ["␣=", "count"]]
    assert list(cells.y) == [1, 2, 3]
    assert [row[-1].rpartition("<br>")[2] for row in cells.hovertext] == ["came next: count"] * 3
    axis = lens_table_figure(two_layers(), pivot="python", target="php").layout.xaxis
    assert list(axis.ticktext) == ["&#36;n", "␣="]


def test_a_cell_has_its_languages_colour_the_deeper_the_likelier_and_others_are_grey():
    figure = lens_table_figure(two_layers(), pivot="python", target="php")
    np.testing.assert_allclose(colour(figure, 0, 0), deep(PIVOT), atol=2)
    np.testing.assert_allclose(colour(figure, 1, 1), deep(TARGET), atol=2)
    half, other = colour(figure, 1, 0), colour(figure, 0, 1)
    assert (colour(figure, 1, 1) <= half).all()
    assert (half < 250).any()
    assert np.ptp(other) < 20
    np.testing.assert_allclose(colour(figure, 2, 0), 255, atol=1)  # what came next is nobody's decoding
    swapped = lens_table_figure(two_layers(), pivot="php", target="python")
    np.testing.assert_allclose(colour(swapped, 0, 0), deep(TARGET), atol=2)


HOSTILE = "</script><b>&quot;<?php $x$ %{text}"


def test_tokens_that_look_like_markup_are_shown_as_they_are():
    figure = lens_table_figure(two_layers(given=[HOSTILE, "b"], following=["b", HOSTILE]))
    page = figure.to_html(include_plotlyjs=False)
    assert "</script><b>" not in page
    assert HOSTILE not in page
    label = figure.layout.xaxis.ticktext[0]
    assert not set("<$") & set(label.replace("&lt;", ""))
    assert written("<?php") == "&lt;?php"
    assert written("&lt;") == "&amp;lt;"
    assert written('"') == '"'  # plotly knows no &quot;
    assert written("$a$") == "&#36;a&#36;"  # else TeX, where a notebook has MathJax


@pytest.mark.parametrize(
    ("token", "shown"),
    [(" len", "␣len"), ("\n\t", "⏎→"), ("\r", "␍"), ("\u200b", "\\u200b"), ("", ""), ("é", "é")],
)
def test_white_space_and_control_characters_are_visible(token, shown):
    assert visible(token) == shown


def test_a_long_token_is_cut_in_its_cell_and_whole_on_hovering():
    name = "a_very_long_identifier_of_someone" * 3
    whole = table([[name] * 20], [[0] * 20], [[1.0] * 20], given=["x"] * 20, following=["x"] * 20)
    cells = lens_table_figure(whole).data[0]
    assert cells.text[0][0].endswith("…")
    assert len(cells.text[0][0]) < 10
    assert name in cells.hovertext[0][0]
    assert "100.0%" in cells.hovertext[0][0]
    assert "1.00 nats" in cells.hovertext[0][0]
    assert lens_table_figure(whole).layout.hoverlabel.font.color == INK  # else it is as pale as its frame


def test_of_a_long_prompt_the_last_positions_are_drawn_and_the_rest_is_counted():
    given = [str(i) for i in range(30)]
    whole = table([given], [[-1] * 30], [[1.0] * 30], given=given, following=given, start=5)
    figure = lens_table_figure(whole, last=12)
    assert list(figure.layout.xaxis.ticktext) == given[-12:]
    assert "23 earlier ones not shown" in figure.layout.xaxis.title.text


def test_the_slider_has_every_step_and_the_menu_every_prompt():
    one = two_layers(steps=(0, 10, 20))
    one["probability"] = one["probability"].copy()
    one["probability"][0] *= 0.1
    both = xr.concat([one, one], dim="prompt")
    figure = lens_table_figure(both, pivot="python", target="php")
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0", "10", "20"]
    (arguments, traces) = slider.steps[0].args
    assert list(traces) == [0, 1]
    assert arguments["z"][0][0][0] == pytest.approx(1.1)
    assert [list(row) for row in slider.steps[-1].args[0]["z"][1]] == [list(row) for row in figure.data[1].z]
    (menu,) = figure.layout.updatemenus
    assert [button.args[0]["visible"][:2] for button in menu.buttons] == [[True, False], [False, True]]
    assert menu.buttons[0].label == "length in PHP: &#36;n␣="
    alone = lens_table_figure(one.isel(step=0, prompt=0))
    assert not alone.layout.sliders
    assert not alone.layout.updatemenus


@pytest.mark.parametrize(("steps", "most", "kept"), [([3, 1, 2], 9, [1, 2, 3]), (range(100), 3, [0, 50, 99])])
def test_some_steps_keep_the_first_and_the_last(steps, most, kept):
    assert some_steps(list(steps), most=most) == kept


def test_tables_that_a_sweep_stored_are_those_of_each_checkpoint_and_can_be_drawn(make_run):
    series = Series.open(make_run(steps=(0, 10)))
    probes = ProbePrompts(PromptStream(PROBES, background={}, minimum=FEW), language="php")
    found = sweep(series, [LensTable(probes)])["lens_table"]
    for row, text in enumerate(found["prompt_text"].to_numpy()):
        alone = series.lens_table(text, steps=[0, 10], probes=PROBES)
        mine = found.isel(prompt=row, position=slice(alone.sizes["position"]))
        assert (mine["text"] == alone["text"]).all()
        assert (mine["language_of"] == alone["language_of"]).all()
    figure = lens_table_figure(found, pivot="python", target="php")
    assert figure.data[0].text[-1][-1].removeprefix("␣") in ("count", "echo")
    own = sweep(series, [LensTable(PromptTexts([Prompt("n = len")]))])["lens_table"]
    assert [trace.name for trace in lens_table_figure(own).data if trace.name] == ["any other token"]
