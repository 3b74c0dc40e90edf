"""What is shown of a neuron is what was measured and what the checkpoint does; and is safe to show."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from babelscope.analyses.neuron_curve import Life
from babelscope.analyses.neuron_explorer import AFTER, BEFORE, explore
from babelscope.analyses.neuron_members import rate_of
from babelscope.analyses.neuron_view import Effect, NeuronView, Span
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.live import LiveModel
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.streams import TextStream
from babelscope.interp.top_activations import TopActivations
from tests.conftest import byte_tokenizer, make_model
from tests.questions import TEXTS

STREAM = TextStream(TEXTS, tokens=120, window=40)
PLANTED = ((1, 4), (2, 7), (2, 90))  # layer and neuron


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    directory = tmp_path_factory.mktemp("series")
    for step in (0, 10, 20):
        make_model("gpt2", seed=step).save_pretrained(directory / f"checkpoint-{step}")
        byte_tokenizer().save_pretrained(directory / f"checkpoint-{step}")
    return Series.open(directory, pivot="python", target="php")


@pytest.fixture(scope="module")
def results(series):
    """As measured, but for who fires when: three neurons are PHP's own from step 10 on."""
    found = dict(sweep(series, [TransferringNeurons(STREAM), TopActivations(STREAM)]))
    firing = found["transferring_neurons"].copy(deep=True)
    own = firing["total"].transpose("step", "language", "layer", "neuron", "block").values  # a view
    own[:] = firing["tokens"].to_numpy()[:, :, None, None] // 4
    own[0, 0, 2, :4] *= 2  # Python's alone, at first: the lowest entropy that counts
    own[0, 1, 2, :4] = 0
    for layer, neuron in PLANTED:
        own[1:, 1, layer - 1, neuron] *= 2
        own[1:, 0, layer - 1, neuron] = 0
    return found | {"transferring_neurons": firing}


@pytest.fixture(scope="module")
def neurons(series, results):
    return explore(series, results)


def test_the_tokens_of_a_span_carry_what_the_checkpoints_neuron_puts_out_on_them(neurons, series):
    measured = neurons.results["top_activations"]
    anatomy = LiveModel(series, prefetch=False).at(series.at(10))
    texts = measured["token"].sel(step=10).to_numpy()
    for layer, index in ((1, 0), (3, 127)):
        shown = neurons.show(layer, index, step=10)
        for language, spans in shown.spans.items():
            own = measured.sel(step=10, language=language).isel(layer=layer - 1, neuron=index)
            assert [span.value for span in spans] == pytest.approx(
                own["value"].to_numpy()[: len(spans)].tolist(), rel=1e-4
            )
            for span, window, at in zip(spans, own["window"].values, own["position"].values, strict=False):
                ids = texts[window][texts[window] >= 0]
                seen = []
                hook = anatomy.downs[layer - 1].register_forward_pre_hook(
                    lambda _m, i, s=seen: s.append(i[0])
                )
                anatomy.model(torch.as_tensor(ids[None], dtype=torch.long))
                hook.remove()
                around = slice(max(0, at - BEFORE), at + 1 + AFTER)
                expected = seen[0][0, around, index].tolist()
                assert span.activations == pytest.approx(expected, rel=1e-3, abs=1e-5)
                assert list(span.tokens) == [series.tokenizer.decode([one]) for one in ids[around]]
                assert span.starts == (at <= BEFORE)
                assert span.ends == (at + 1 + AFTER >= len(ids))


def test_a_set_writes_the_mean_of_its_neurons(neurons, series):
    table = neurons.table.query("born == 10")
    assert len(table) == len(PLANTED)
    found = neurons.writes(table, step=10)
    anatomy = LiveModel(series, prefetch=False).at(series.at(10))
    rows = torch.stack([anatomy.downs[row.layer - 1].weight[row.neuron] for row in table.itertuples()])
    norm = anatomy.final_norm.weight
    effects = ((rows - rows.mean(1, keepdim=True)) * norm @ anatomy.unembed.T).mean(0)
    z = (effects - effects.mean()) / effects.std(correction=0)
    assert [by for _, by in found.raised] == pytest.approx(z.topk(10).values.tolist(), rel=1e-3)
    assert [by for _, by in found.lowered] == pytest.approx((-(-z).topk(10).values).tolist(), rel=1e-3)
    assert found.table["raised"].tolist() == [text for text, _ in found.raised]


def test_what_one_neuron_writes_is_what_a_set_of_it_alone_writes(neurons):
    table = neurons.table.query("layer == 2 and neuron == 90")
    assert neurons.show(2, 90, step=10).effect == neurons.writes(table, step=10)
    assert neurons.show(2, 89, step=10).effect != neurons.show(2, 90, step=10).effect


def test_a_checkpoint_is_opened_once_for_many_neurons(series, results, monkeypatch):
    neurons, opened = explore(series, results), []
    at = LiveModel.at
    monkeypatch.setattr(LiveModel, "at", lambda live, one: opened.append(one.step) or at(live, one))
    for index in range(4):
        neurons.show(1, index)
    neurons.show(1, 0, step=0)
    assert opened == [20, 0]


def test_the_default_step_is_the_last_or_the_one_that_was_asked_for(neurons, series):
    assert neurons.show(2, 5).step == 20
    assert explore(series, neurons.results, step=10).show(2, 5).title == "Neuron 5 of layer 2, step 10"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer": 0, "index": 3}, "there is no layer 0; give one of 1 to 3"),
        ({"layer": 4, "index": 3}, "there is no layer 4; give one of 1 to 3"),
        ({"layer": 1.5, "index": 3}, r"there is no layer 1.5; give one of 1 to 3"),
        ({"layer": 2, "index": 128}, "layer 2 has no neuron 128; give one of 0 to 127"),
        ({"layer": 2, "index": -1}, "layer 2 has no neuron -1; give one of 0 to 127"),
        ({"layer": 2, "index": 3, "step": 11}, "step 11 was not measured; there are 0, 10, 20"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_there_is(neurons, asked, message):
    with pytest.raises(InputError, match=message):
        neurons.show(**asked)


def test_exploring_says_which_measure_or_step_is_missing(neurons, series):
    with pytest.raises(
        InputError, match=r"results hold transferring_neurons, not top_activations; sweep TopAct"
    ):
        explore(series, sweep(series, [TransferringNeurons(STREAM)]))
    with pytest.raises(InputError, match="step 7 was not measured; there are 0, 10, 20"):
        explore(series, neurons.results, step=7)
    with pytest.raises(InputError, match="the table of neurons is empty; ask for more of them"):
        neurons.writes(neurons.table.query("layer > 99"))


def test_the_table_is_filtered_like_any_other(neurons):
    found = neurons.table.query("language == 'php' and layer == 2 and born > 0")
    assert found["neuron"].tolist() == [7, 90]
    assert found["born"].tolist() == [10, 10]
    shown = neurons.show(2, 7)
    assert shown.life.sentences[1] == "PHP's from step 10 on, at 2 of 3 checkpoints."


def test_rates_are_of_all_tokens_and_their_intervals_leave_empty_blocks_out():
    tokens = np.array([[100.0], [50.0], [0.0]])
    rate, (low, high) = rate_of(np.array([[10.0], [40.0], [0.0]]), tokens)
    assert rate == pytest.approx(50 / 150)
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.8)


HOSTILE = ("<script>alert(1)</script>", '" onload="x', "&amp;", "'\n\t", "\u202e", "$x$", "]]>")


class Read(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.open = set(), set(), "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("wbr", "meta", "line", "circle", "rect", "polyline", "polygon"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile():
    rates, language = np.array([0.1, 0.2, np.nan]), "<b>mine</b>"
    life = Life(
        steps=np.array([0, 1, 5]),
        rate={language: rates},
        low={language: rates},
        high={language: rates},
        member={language: np.array([False, True, True])},
        born={language: 1},
        died={},
        colours={language: "#0072b2"},
    )
    span = Span(HOSTILE, tuple(np.linspace(-1, 2, len(HOSTILE)).tolist()), len(HOSTILE) - 1, True, False)
    effect = Effect(tuple((token, 5.0) for token in HOSTILE), tuple((token, -3.0) for token in HOSTILE), 4.0)
    return NeuronView(layer=1, neuron=2, step=5, spans={language: [span]}, effect=effect, life=life)


def test_nothing_of_a_text_is_read_as_markup(hostile):
    page = Read(hostile._repr_html_())
    assert page.tags == {
        "div",
        "span",
        "wbr",
        "svg",
        "text",
        "line",
        "circle",
        "title",
        "polygon",
        "polyline",
        "rect",
    }
    assert "onload" not in page.attributes
    assert page.open == []
    for shown in (
        "<script>alert(1)</script>",
        '"␣onload="x',
        "&amp;",
        "'⏎→",
        "\\u202e",
        "$x$",
        "]]>",
        "<b>mine</b>",
    ):
        assert shown in page.text


def test_a_page_of_its_own_needs_nothing_else(hostile, tmp_path):
    page = hostile.to_html(tmp_path / "neuron.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert hostile._repr_html_() in page
    for needed in ("<script", "src=", "href=", "@import", "url("):
        assert needed not in page


def test_the_largest_output_is_the_deepest_and_signs_have_colours_of_their_own(hostile):
    page = hostile._repr_html_()
    assert page.count("background:rgba(0,158,115,0.65);padding:1px 0") == 1  # +2, the largest
    assert page.count("background:rgba(204,121,167,0.325);padding:1px 0") == 1  # −1
    assert page.count("outline:1.5px solid currentColor") == 1


def test_plain_text_says_the_same(hostile):
    lines = repr(hostile).splitlines()
    assert lines[0] == "Neuron 2 of layer 1, step 5"
    assert lines[1] == "<b>mine</b>'s from step 1 on, at 2 of 3 checkpoints."
    assert lines[3].startswith("  +2.00  <script>alert(1)</script> ")
    assert lines[3].endswith("[]]>]…")
    assert lines[4].startswith("raises <script>alert(1)</script> +5.0")


@pytest.mark.parametrize(
    ("born", "died", "member", "said"),
    [
        ({}, {}, [0, 0, 0], "Never <b>mine</b>'s."),
        ({}, {}, [0, 1, 0], "<b>mine</b>'s at 1 of 3 checkpoints, never at two in a row."),
        (
            {"<b>mine</b>": 0},
            {"<b>mine</b>": 5},
            [1, 1, 0],
            "<b>mine</b>'s from the first checkpoint to step 5, at 2 of 3",
        ),
    ],
)
def test_a_life_is_told_in_words(hostile, born, died, member, said):
    life = replace(hostile.life, born=born, died=died, member={"<b>mine</b>": np.array(member, bool)})
    assert life.sentences[0].startswith(said)
