"""What holds for every format and every mix: the shares that were asked for are the shares that are read."""

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from babelscope.analyses.export import formats
from tests.analyses.exporting import (
    BY_DOCUMENT,
    ENDING_OF_SOURCE,
    READERS,
    make_mix,
    shares_of_draws,
    write,
)

# Names that YAML, Python, a shell or a printf might take for something else.
AWKWARD = (
    "no",
    "null",
    "~",
    "1e3",
    "0x1F",
    "12:30",
    "2024-01-01",
    "C#",
    "C++",
    "é",
    "a:b",
    "-x",
    "#x",
    "'q'",
)
NAMES = st.sampled_from(
    (*AWKWARD, '"d"', "{x}", "%d", "@a", "*s", "&r", "!t", "|", ">", "$HOME", "`ls`", "a\\b")
)
DRAWN = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def mixes(draw):
    languages = draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.lower))
    parts = draw(st.lists(st.integers(0, 10_000), min_size=len(languages), max_size=len(languages)))
    parts[draw(st.integers(0, len(parts) - 1))] += 1
    weights = {name: part / sum(parts) for name, part in zip(languages, parts, strict=True)}
    means = {name: draw(st.floats(1, 1e5)) for name in languages}
    return weights, means


def token_shares(format, mix, means, folder):
    """Language to its share of tokens, from what was written."""
    draws = shares_of_draws(write(format, mix, folder, means=means))
    ending = ENDING_OF_SOURCE.get(format, "")
    # hf-datasets and json name languages, the others sources.
    by_language = {source.removesuffix(ending): share for source, share in draws.items()}
    tokens = {
        language: share * (means[language] if format in BY_DOCUMENT else 1)
        for language, share in by_language.items()
    }
    return {language: count / sum(tokens.values()) for language, count in tokens.items()}


def test_every_format_has_a_reader_here():
    assert set(READERS) == set(formats())


@pytest.mark.parametrize("format", sorted(READERS))
@given(given_mix=mixes())
@DRAWN
def test_token_shares_read_back_are_those_of_the_mix(format, given_mix, tmp_path):
    weights, means = given_mix
    found = token_shares(format, make_mix(weights), means, tmp_path)
    for language, weight in weights.items():
        assert found.get(language, 0) == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize("format", sorted(READERS))
@given(given_mix=mixes())
@DRAWN
def test_token_shares_do_not_depend_on_the_order_of_languages(format, given_mix, tmp_path):
    weights, means = given_mix
    backwards = dict(reversed(weights.items()))
    forth = token_shares(format, make_mix(weights), means, tmp_path)
    back = token_shares(format, make_mix(backwards), means, tmp_path)
    assert back == pytest.approx(forth, abs=1e-9)


@given(verdict=st.text(string.printable, max_size=60))
@DRAWN
def test_no_verdict_leaves_the_comments_that_open_a_file(verdict, tmp_path):
    mix = make_mix({"python": 0.5, "php": 0.5}).model_copy(update={"verdict": verdict})
    for format in ("nanotron", "megatron", "torchtitan"):
        assert shares_of_draws(write(format, mix, tmp_path)) == {"python": 0.5, "php": 0.5}
