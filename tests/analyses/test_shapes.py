"""Names of shapes follow from the signs of their stretches, and the sentence says no more than they do."""

import pytest

from babelscope.analyses.shapes import Stretch, in_words, levels_off, name_shape, rises_then_falls
from babelscope.core.stats import Contrast

EDGES = [10, 100, 1000, 10_000, 100_000]
CHANGES = {
    "+": Contrast(0.09, 0.07, 0.11),
    "-": Contrast(-0.08, -0.1, -0.06),
    "0": Contrast(0.01, -0.01, 0.02),
}
BELOW_PEAK, AT_PEAK, ABOVE = (
    Contrast(-0.05, -0.08, -0.02),
    Contrast(0.0, -0.02, 0.01),
    Contrast(0.1, 0.06, 0.12),
)


def stretches(pattern):
    return [Stretch(EDGES[number], EDGES[number + 1], CHANGES[sign]) for number, sign in enumerate(pattern)]


def shape(pattern, *, lead=AT_PEAK):
    return name_shape(stretches(pattern), lead=lead)[0]


def stage_names(pattern):
    return [stage.name for stage in name_shape(stretches(pattern), lead=BELOW_PEAK)[1]]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("0", "flat"),
        ("+", "only rising"),
        ("-", "only falling"),
        ("+0", "rise-plateau"),
        ("+-", "rise-fall"),
        ("-+", "fall-rise"),
        ("0-", "plateau-fall"),
        ("+-0", "translation-transition-stabilization"),
        ("+-+-", "two peaks"),
        ("+0-0", "translation-transition-stabilization"),
        ("+0-", "rise-fall"),
        ("-0+0", "fall-flat-rise-flat"),
    ],
)
def test_signs_make_the_shape(pattern, expected):
    assert shape(pattern) == expected


def test_a_flat_top_belongs_to_translation():
    _, stages = name_shape(stretches("+0-0"), lead=BELOW_PEAK)
    assert [(stage.name, stage.start_step, stage.end_step) for stage in stages] == [
        ("translation", 10, 1000),
        ("transition", 1000, 10_000),
        ("stabilization", 10_000, 100_000),
    ]


def goes_on_falling_by(change):
    """After .08 in one tenfold of steps, this much in the next."""
    return [*stretches("+-"), Stretch(1000, 10_000, Contrast(change, change - 0.005, change + 0.005))]


def test_a_fall_that_goes_on_much_more_slowly_has_levelled_off():
    slow = goes_on_falling_by(-0.015)
    assert name_shape(slow, lead=BELOW_PEAK)[0] == "translation-transition-stabilization"
    assert "then levels off to the end (-1.5 points" in in_words(slow)


def test_a_fall_that_goes_on_at_its_pace_has_not():
    assert not levels_off(*goes_on_falling_by(-0.04)[1:])


@pytest.mark.parametrize(
    ("pattern", "does"),
    [("+-", True), ("0+0-", True), ("-+-", True), ("+0", False), ("-+", False), ("0-", False)],
)
def test_a_fall_counts_after_a_rise_only(pattern, does):
    assert rises_then_falls(stretches(pattern)) is does


def test_a_rise_to_the_end_after_a_flat_start_is_late():
    assert shape("0+") == "late rise"


@pytest.mark.parametrize("pattern", ["+0", "+-", "+-0"])
def test_a_flat_start_before_a_rise_does_not_change_the_shape(pattern):
    assert shape("0" + pattern) == shape(pattern)


def test_a_second_rise_is_stabilization_only_while_it_stays_below_the_peak():
    assert shape("+-+", lead=BELOW_PEAK) == "translation-transition-stabilization"
    assert shape("+-+", lead=AT_PEAK) == "rise-fall-rise"


@pytest.mark.parametrize("pattern", ["+0+", "+-+", "-+"])
def test_a_last_rise_is_best_at_the_end_only_where_it_exceeds_what_came_before(pattern):
    assert shape(pattern, lead=ABOVE) == "best at the end"
    assert shape(pattern, lead=AT_PEAK) != "best at the end"


def test_stages_carry_the_names_of_the_paper_only_in_its_shape():
    assert stage_names("+-0") == ["translation", "transition", "stabilization"]
    assert stage_names("0+-+") == ["flat", "translation", "transition", "stabilization"]
    assert stage_names("+-") == ["translation", "transition"]
    assert stage_names("+0") == ["rising", "flat"]
    assert stage_names("+-+-") == ["rising", "falling", "rising", "falling"]


def test_stages_follow_each_other_without_gaps():
    stages = name_shape(stretches("0+-0"), lead=BELOW_PEAK)[1]
    assert [stage.start_step for stage in stages] == EDGES[:-1]
    assert [stage.end_step for stage in stages] == EDGES[1:]


def test_tokens_are_called_tokens():
    assert "rises until 100 tokens (+9.0" in in_words(stretches("+-"), unit="tokens")


def test_the_sentence_gives_every_change_with_its_interval():
    assert in_words(stretches("+-")) == (
        "the score rises until step 100 (+9.0 points, +7.0 to +11.0),"
        " then falls to the end (-8.0 points, -10.0 to -6.0)"
    )
    assert in_words(stretches("0")) == (
        "the score does not resolvably change over the whole run (+1.0 points, -1.0 to +2.0)"
    )
