"""The `Mix` document: what it refuses, what it keeps apart, what survives the disk."""

import json

import pytest

from babelscope.core.errors import InputError
from babelscope.corpora.mix import LanguageShare, Mix, check_sum
from babelscope.corpora.mix_changes import changes

DOCUMENT = {
    "languages": {
        "python": {"weight": 0.7, "unique_tokens": 1_000, "processed_tokens": 7_000},
        "php": {"weight": 0.3, "weight_interval": [0.2, 0.45]},
    },
    "pivot": "python",
    "verdict": "Keep three parts of PHP to seven of Python.",
    "method": "algorithm-1",
    "provenance": {"series": "runs/php", "versions": {"babelscope": "0.1.0"}},
}


def test_a_saved_mix_loads_as_it_was(tmp_path):
    mix = Mix.parse(DOCUMENT, origin="here")
    mix.save(tmp_path / "mix.json")
    assert Mix.load(tmp_path / "mix.json") == mix
    assert json.loads((tmp_path / "mix.json").read_text())["format"] == 2


def test_weights_that_do_not_sum_to_one_are_refused_with_their_sum():
    languages = {"python": {"weight": 0.7}, "php": {"weight": 0.2}}
    with pytest.raises(InputError, match=r"mix\.json.*sum to 0\.9, not 1 \(python 0\.7, php 0\.2\)"):
        Mix.parse({**DOCUMENT, "languages": languages}, origin="mix.json")


def test_a_sum_within_a_millionth_of_one_is_one():
    check_sum({"a": 1 / 3, "b": 1 / 3, "c": 0.333334}, what="the weights")
    with pytest.raises(InputError, match=r"the weights sum to 1\.00001"):
        check_sum({"a": 0.5, "b": 0.50001}, what="the weights")


@pytest.mark.parametrize(("weights", "listed"), [({"a": 0.0}, "a 0"), ({}, "none")])
def test_weights_of_nothing_are_not_to_be_divided_by_zero(weights, listed):
    with pytest.raises(InputError, match=rf"the weights sum to 0, not 1 \({listed}\); give at least one"):
        check_sum(weights, what="the weights")


def test_not_a_number_is_no_weight():
    with pytest.raises(InputError, match="nan"):
        Mix.parse({**DOCUMENT, "languages": {"python": {"weight": float("nan")}}}, origin="mix.json")


def test_epochs_are_processed_over_unique_tokens_and_unknown_without_either():
    assert LanguageShare(weight=0.7, unique_tokens=1_000, processed_tokens=7_000).epochs == 7
    assert LanguageShare(weight=0.7, processed_tokens=7_000).epochs is None
    assert LanguageShare(weight=0.0, unique_tokens=0, processed_tokens=0).epochs is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pivot": "perl"}, "pivot 'perl' is not among the languages"),
        ({"provenance": {"series": ["/home/someone/runs"]}}, "absolute path '/home/someone/runs'"),
        ({"wieghts": {}}, "unknown key 'wieghts'"),
        ({"format": 3}, r"format 3 is not one that is read here \(1 and 2\); update babelscope"),
    ],
)
def test_a_mistake_is_refused_by_name(change, message):
    with pytest.raises(InputError, match=message):
        Mix.parse({**DOCUMENT, **change}, origin="mix.json")


def test_an_interval_runs_upwards_within_zero_and_one():
    languages = {"python": {"weight": 1.0, "weight_interval": [0.9, 0.5]}}
    with pytest.raises(InputError, match="0 <= low <= high <= 1"):
        Mix.parse({**DOCUMENT, "languages": languages}, origin="mix.json")


def test_a_mix_of_the_first_format_is_still_read_and_stays_what_it_is(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps({"format": 1, **DOCUMENT}))
    old = Mix.load(tmp_path / "old.json")
    assert old.format == 1
    assert old.weights == {"python": 0.7, "php": 0.3}
    assert old.decision is None


def test_numbers_are_kept_to_the_digits_that_mean_something_and_weights_still_sum_to_one(tmp_path):
    thirds = {name: {"weight": 1 / 3, "weight_interval": [0.123456789, 0.5]} for name in ("a", "b", "c")}
    mix = Mix.parse(
        {**DOCUMENT, "languages": thirds, "pivot": "a", "provenance": {"p": [2 / 3, 7]}}, origin="here"
    )
    assert mix.weights["a"] == 0.33333333
    assert mix.languages["a"].weight_interval == (0.123457, 0.5)
    assert mix.provenance == {"p": [0.666667, 7]}
    mix.save(tmp_path / "mix.json")
    assert Mix.load(tmp_path / "mix.json") == mix


def test_the_same_mix_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        Mix.parse(DOCUMENT, origin="here").save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


# --- what is different


def changed(**change):
    return changes(Mix.parse(DOCUMENT, origin="old"), Mix.parse({**DOCUMENT, **change}, origin="new"))


def test_a_mix_differs_in_nothing_from_itself():
    assert changed() == []


def test_a_weight_an_interval_and_a_count_that_changed_are_told_with_both_values():
    languages = {
        "python": {"weight": 0.6, "unique_tokens": 1_000, "processed_tokens": 6_000},
        "php": {"weight": 0.4, "weight_interval": [0.2, 0.5]},
    }
    assert changed(languages=languages) == [
        "Python, weight: 70.00% before, 60.00% now.",
        "Python, processed tokens: 7,000 before, 6,000 now.",
        "PHP, weight: 30.00% before, 40.00% now.",
        "PHP, weight interval: 20.00% to 45.00% before, 20.00% to 50.00% now.",
    ]


def test_a_language_that_came_or_went_is_told():
    languages = {"python": DOCUMENT["languages"]["python"], "csharp": {"weight": 0.3}}
    assert {"PHP is no longer there.", "C# is new."} <= set(changed(languages=languages))


def test_the_decision_comes_first_and_what_it_rests_on_last():
    found = changed(decision="keep", provenance={"series": "runs/php", "versions": {"babelscope": "0.2.0"}})
    assert found == [
        "Decision: none before, keep now.",
        "versions, babelscope: 0.1.0 before, 0.2.0 now.",
    ]


def test_only_a_verdict_that_nothing_else_explains_is_told_whole():
    assert changed(verdict="Otherwise.") == ["Verdict now: Otherwise."]
    assert changed(verdict="Otherwise.", method="natural") == [
        "Method: algorithm-1 before, natural now.",
    ]
