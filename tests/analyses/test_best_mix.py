"""What a series must have for a mix, and one mix from several series."""

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses.best_mix import MixEvidence, gather, recommend_mix, tokens_that_exist
from babelscope.analyses.nearest_mix import Limits
from babelscope.core.errors import InputError
from tests.analyses.synthetic import Measured, babel, problem_scores
from tests.analyses.test_mix import B, run

PHP = {"python": 11 * B, "php": 23 * B}


def evidence(target="php", *, series=None, pivot="python", available=PHP, **told):
    return MixEvidence(series or f"{target}-run", pivot, target, available, run(target, **told))


def csharp(**told):
    return evidence("csharp", available={"python": 11 * B, "csharp": 16 * B}, loss=1.5238095238, **told)


def test_several_series_make_one_mix_each_target_against_the_pivot():
    found = recommend_mix([evidence(loss=1.6875), csharp()])
    assert found.mix.weights == pytest.approx({"python": 11 / 26, "php": 5 / 26, "csharp": 10 / 26})


def test_tokens_that_are_given_count_more_than_those_that_a_series_recorded():
    found = recommend_mix([evidence(loss=1.6875)], available={"php": 3 * B})
    assert found.mix.languages["php"].unique_tokens == 3 * B


def test_limits_and_the_present_mix_are_handed_on():
    found = recommend_mix(
        [evidence()], limits=Limits(floors={"php": 0.6}), present={"python": 0.5, "php": 0.5}
    )
    assert found.mix.languages["php"].weight == 0.6
    assert found.mix.languages["php"].present_weight == 0.5


def test_series_of_different_pivots_make_no_mix():
    with pytest.raises(InputError, match=r"different pivots \(php-run: Python, csharp-run: C\+\+\)"):
        recommend_mix([evidence(), MixEvidence("csharp-run", "cpp", "csharp", {}, run("csharp"))])


def test_series_must_agree_on_what_exists_of_the_pivot_unless_it_is_given():
    other = evidence("csharp", available={"python": 12 * B, "csharp": 16 * B})
    with pytest.raises(InputError, match=r"how many tokens of python .*11,000,000,000.*give --available"):
        recommend_mix([evidence(), other])
    found = recommend_mix([evidence(), other], available={"python": 12 * B})
    assert found.mix.languages["python"].unique_tokens == 12 * B


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            MixEvidence("run", "cpp", "csharp", {}, run("csharp")),
            r"different pivots \(run: Python, run: C\+\+\)",
        ),
        (evidence("csharp", series="run", available={"python": 12 * B, "csharp": B}), "do not agree"),
        (evidence("php", series="run"), "run and run have the same target, PHP"),
    ],
)
def test_series_in_directories_of_one_name_are_still_told_apart(other, says):
    with pytest.raises(InputError, match=says):
        recommend_mix([evidence(series="run"), other])


def test_tokens_of_a_language_that_is_in_no_series_are_refused():
    with pytest.raises(InputError, match="tokens are given for 'go', but the mix is of python, php"):
        recommend_mix([evidence()], available={"go": B})


def test_what_a_series_says_of_other_languages_is_left_out():
    counts = tokens_that_exist([evidence(available=PHP | {"go": B})], {"php": B})
    assert counts == {"python": 11 * B, "php": B}


def test_tokens_that_nobody_counted_are_asked_for():
    with pytest.raises(InputError, match="say how many tokens of php exist, as --available php="):
        recommend_mix([evidence(available={"python": 11 * B})])


def test_a_series_that_lacks_what_is_needed_is_named_with_it():
    without = MixEvidence("php-run", "python", "php", PHP, None, lacking="It has no scores.")
    with pytest.raises(InputError, match=r"php-run: It has no scores\."):
        recommend_mix([without, csharp()])
    with pytest.raises(InputError, match="no series is given"):
        recommend_mix([])


# --- of one series


def gathered(problems: xr.Dataset | None, *, best_by=(), stages=None):
    analysis, notes = babel(), []
    datasets = {} if problems is None else {"problem_scores": problems}
    found = gather(
        Measured(datasets, None, pivot="python", target="php"),  # pyright: ignore[reportArgumentType]
        analysis.stages if stages is None else stages,
        analysis.loss_proportion,
        available={"python": 2_000_000, "php": 6_000_000},
        best_by=best_by,
        notes=notes,
    )
    return found, notes


@pytest.fixture(scope="module")
def problems():
    return problem_scores(np.random.default_rng(0), pivot="python", target="php")


def test_a_series_brings_what_algorithm_1_needs_and_where_it_is_from(problems):
    found, _ = gathered(problems, best_by=("pivot only",))
    assert found.run.best_by == "problems of the groups 'pivot only'"
    assert found.run.problem_set == "the problems that only the pivot's text answers"
    assert set(found.run.other_best) == {"all problems", "problems of the groups 'both'"}
    assert found.run.origin["series"] == "php-run"
    assert found.run.origin["steps"] == [0, 800]


def test_without_pivot_scores_the_targets_score_does_not_stand_in_for_the_mean(problems):
    alone = problems.isel(problem=np.flatnonzero(problems["language"].to_numpy() == "php"))
    found, _ = gathered(alone)
    assert found.run is None
    assert "of all problems, none was asked in Python; ask them in both languages" in found.lacking


def test_without_any_scores_the_identifier_choice_does_not_stand_in_for_them():
    stages = {"identifier choice": babel().stages["identifier choice"]}
    found, _ = gathered(None, stages=stages)
    assert found.run is None
    assert "needs problems asked in both languages at every checkpoint" in found.lacking


def test_too_few_checkpoints_since_alpha_are_refused_with_their_number(problems):
    found, _ = gathered(problems.isel(step=slice(0, 7)))
    assert found.run is None
    assert "since alpha" in found.lacking
