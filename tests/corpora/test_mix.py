"""The `Mix` document: what it refuses, what it keeps apart, what survives the disk."""

import json

import pytest

from babelscope.core.errors import InputError
from babelscope.corpora.mix import LanguageShare, Mix, check_sum

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
    assert json.loads((tmp_path / "mix.json").read_text())["format"] == 1


def test_weights_that_do_not_sum_to_one_are_refused_with_their_sum():
    languages = {"python": {"weight": 0.7}, "php": {"weight": 0.2}}
    with pytest.raises(InputError, match=r"mix\.json.*sum to 0\.9, not 1 \(python 0\.7, php 0\.2\)"):
        Mix.parse({**DOCUMENT, "languages": languages}, origin="mix.json")


def test_a_sum_within_a_millionth_of_one_is_one():
    check_sum({"a": 1 / 3, "b": 1 / 3, "c": 0.333334}, what="the weights")
    with pytest.raises(InputError, match=r"the weights sum to 1\.00001"):
        check_sum({"a": 0.5, "b": 0.50001}, what="the weights")


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
        ({"format": 2}, "format"),
    ],
)
def test_a_mistake_is_refused_by_name(change, message):
    with pytest.raises(InputError, match=message):
        Mix.parse({**DOCUMENT, **change}, origin="mix.json")


def test_an_interval_runs_upwards_within_zero_and_one():
    languages = {"python": {"weight": 1.0, "weight_interval": [0.9, 0.5]}}
    with pytest.raises(InputError, match="0 <= low <= high <= 1"):
        Mix.parse({**DOCUMENT, "languages": languages}, origin="mix.json")
