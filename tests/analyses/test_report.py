"""The page: self-contained, honest about nulls and gaps, and safe to open whatever things are called."""

import re
from copy import copy
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from babelscope.analyses.report import report
from babelscope.analyses.report.sections import NO_RATE
from tests.analyses.synthetic import babel
from tests.analyses.test_direction_effect import concluded
from tests.analyses.test_lens_table_figure import two_layers
from tests.analyses.test_linear_probes import learnt

ORDER = [
    "stages",
    "stage-votes",
    "scores",
    "losses",
    "working-language",
    "decoding",
    "layers",
    "lens-table",
    "direction-effect",
    "linear-probes",
    "neurons",
    "proportion",
    "mix",
    "mix-sensitivity",
    "comparison",
    "notes",
    "settings",
]
ON_DEMAND = {
    "lens-table": "No lens table",
    "direction-effect": "--also causal",
    "linear-probes": "--also linear-probes",
}
FIGURES = ORDER[: ORDER.index("notes")]
DRAWN = [name for name in FIGURES if name not in ON_DEMAND]


class Page(HTMLParser):
    """What a browser would load and show of a page."""

    def __init__(self, html):
        super().__init__()
        self.loads, self.sections, self.scripts, self.styles = [], [], [], []
        self.tags, self._text, self._inside = [], {}, None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs, self._inside = dict(attrs), tag
        self.tags.append(tag)
        loaded = attrs.get("src") or (attrs.get("href") if tag == "link" else None)
        if loaded:
            self.loads.append(loaded)
        if tag == "section":
            self.sections.append(attrs["id"])

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside == "style":
            self.styles.append(data)
        else:
            where = self.sections[-1] if self.sections else "summary"
            self._text[where] = self._text.get(where, "") + data

    def handle_endtag(self, tag):
        self._inside = None

    def text(self, *sections):
        """Visible text, of some sections or of all."""
        return "\n".join(text for where, text in self._text.items() if not sections or where in sections)


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    def page(analysis):
        with pytest.MonkeyPatch.context() as patch:  # five megabytes that take a second to parse
            patch.setattr("babelscope.analyses.report.page.get_plotlyjs", lambda: "// plotly")
            file = report(analysis, tmp_path_factory.mktemp("page") / "report.html")
        return Page(file.read_text("utf-8"))

    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The one page that is written in full."""
    return Page(report(babel(), tmp_path_factory.mktemp("whole") / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def without_transfer(write):
    return write(babel(transfers=False))


def test_the_page_loads_nothing_from_anywhere(page):
    assert page.loads == ["data:,"]  # an empty icon, so that a browser does not ask for one
    assert not re.search(r"@import|url\(", "".join(page.styles))


def test_plotly_is_inlined_once_and_every_figure_uses_it(page):
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1
    drawn = [script for script in page.scripts if "Plotly.newPlot" in script and len(script) < 1_000_000]
    assert len(drawn) == len(DRAWN)


def test_sections_come_in_their_order_and_numbers_of_figures_in_theirs(page):
    assert page.sections == ORDER
    assert re.findall(r"Figure (\d+)\.", page.text()) == [str(n + 1) for n in range(len(DRAWN))]


def test_every_caption_says_what_would_count_against_it_and_what_the_null_is(page):
    for section in DRAWN:
        assert "What would count against it:" in page.text(section)
        assert "Null:" in page.text(section)


def test_what_was_not_asked_for_says_how_to_ask_for_it(page):
    for section, words in ON_DEMAND.items():
        assert words in page.text(section)
        assert "Figure" not in page.text(section)


def test_what_was_asked_for_besides_is_drawn_and_said(write):
    moved, (_, told) = concluded(effect=1.0), learnt()
    page = write(replace(babel(), directions=moved, linear_probes=told, examples=two_layers()))
    for section, verdict in zip(ON_DEMAND, ("", moved.verdict_, told.verdict_), strict=True):
        assert verdict in page.text(section).replace("−", "-").replace("Python-PHP", "Python−PHP")
        assert "Figure" in page.text(section)


def test_the_summary_holds_the_verdicts_of_the_analysis(page):
    summary, analysis = page.text("summary").replace("−", "-"), babel()
    for found in analysis.stages.values():
        assert found.verdict_ in summary
    assert analysis.recommendation.verdict in summary
    for verdict in analysis.comparison.differences_["verdict"]:
        assert verdict in summary


def test_words_of_scores_are_those_of_the_table(page):
    rows = babel().scores.query("language == 'php' and group == 'pivot only'")
    best, last = rows.loc[rows["rate"].idxmax()], rows.iloc[-1]
    assert f"highest {best['rate']:.1%} ({best['low']:.1%} to {best['high']:.1%})" in page.text("scores")
    assert f"{last['rate']:.1%} ({last['low']:.1%} to {last['high']:.1%}) at the last" in page.text("scores")


def test_what_clears_its_nulls_is_said_with_how_often_and_how_much(page):
    table = babel().working.rows("cells").query("step > 0")
    above = int(table["above_null"].sum())
    words = page.text("working-language")
    assert f"above all three nulls at {above} of {len(table)} trained checkpoints" in words
    assert f"{table['estimate'].max():.0%}" in words
    assert "above its nulls" in page.text("summary")


def test_what_does_not_clear_its_nulls_is_said_to_be_not_outside_them(without_transfer):
    for where in ("summary", "working-language"):
        assert "not outside its null at any of 15 trained checkpoints" in without_transfer.text(where)
        assert "above all three nulls" not in without_transfer.text(where)


def test_a_pivot_that_is_written_too_is_not_taken_for_one_that_is_only_thought_in(write):
    share = copy(babel().working)
    share.table_ = share.table_.assign(
        above_null=share.table_["above_null"] & (share.table_["prompts"] == "all")
    )
    page = write(replace(babel(), working=share))
    assert "above its nulls, but not while PHP is written" in page.text("summary")


def test_of_a_series_of_its_start_alone_the_page_follows_nothing_over_steps(write):
    share = copy(babel().working)
    share.steps_, share.table_ = share.steps_[:1], share.table_.query("step == 0")
    share.layers_ = share.layers_.query("step == 0")
    page = write(replace(babel(), working=share, stages={}))
    assert "Only the model that training starts from" in page.text("working-language")
    assert "0 trained checkpoints" not in page.text("summary", "working-language", "decoding")


def test_a_refused_mix_gives_its_reasons_and_no_figure(without_transfer):
    refused = babel(transfers=False).recommendation
    assert refused.mix is None
    assert refused.verdict in without_transfer.text("mix").replace("−", "-")
    assert "Figure" not in without_transfer.text("mix")
    assert "refused" in without_transfer.text("summary")


def test_the_caveat_stands_wherever_the_proportion_by_loss_does(page):
    assert babel().loss_proportion.caveat_ in page.text("proportion")


def test_findings_and_notes_are_listed(write):
    page = write(replace(babel(), notes=("No log-linear fit by loss: too few checkpoints.",)))
    assert "checkpoint-650: model.safetensors is truncated" in page.text("notes")
    assert "No log-linear fit by loss" in page.text("notes")
    assert "No log-linear fit by loss" in page.text("proportion")


def test_sections_without_data_stay_and_say_why(write):
    nothing = replace(
        babel(),
        scores=None,
        working=None,
        stages={},
        loss_proportion=None,
        language_proportion=None,
        disagreement=None,
        recommendation=None,
        comparison=None,
        history=pd.DataFrame(),
        notes=("No problems were asked, so there is no score.", "No mix: say how many tokens exist."),
    )
    page = write(nothing)
    assert page.sections == ORDER
    assert "No problems were asked" in page.text("scores")
    assert "No mix: say how many tokens exist." in page.text("mix")
    assert "No mix: say how many tokens exist." in page.text("summary")
    for section in ("stages", "working-language", "layers", "proportion", "comparison"):
        assert page.text(section).count(".") >= 1
        assert "Figure" not in page.text(section)


def test_a_run_without_a_logged_rate_is_told_so(write, page):
    assert NO_RATE not in page.text("stages")
    assert NO_RATE in write(replace(babel(), history=pd.DataFrame())).text("stages")


def test_names_are_text_and_never_markup(write, page):
    evil = "<img src=x onerror=alert(1)></script>{pivot}$title"
    renamed = babel(pivot=evil)
    hostile = write(replace(renamed, name=evil, notes=(evil,)))
    assert "img" not in hostile.tags
    assert hostile.tags.count("script") == page.tags.count("script")
    assert evil in hostile.text("summary")
    assert evil in hostile.text("notes")


def test_the_same_analysis_gives_the_same_page(write, page):
    again = write(babel())
    assert again.text() == page.text()
    assert again.scripts[-9:] == page.scripts[-9:]  # the figures


def test_a_tuned_lens_is_said_at_the_top_and_wherever_it_was_read_with(page, write):
    said, caution = "read with the tuned lens", "may hide what a middle layer decodes to"
    assert said not in page.text()
    tuned = replace(babel(), lens="tuned", examples=two_layers())
    read = write(tuned)
    assert f"· {said}" in read.text("summary")
    assert read.text("summary").count(caution) == 1
    for section in ("working-language", "decoding", "layers", "lens-table"):
        assert caution in read.text(section)
    assert caution in tuned.verdict
