"""A mix under limits: what holds for every one of them, what is kept apart, what moves it, what it says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscope.analyses.mix import Limits, Recommendation, recommend
from babelscope.core.errors import InputError
from tests.analyses.test_mix import B, loss_of, peak_at, run

EXISTS = {"php": 23, "csharp": 16, "go": 11, "cpp": 28}
LOSSES = {share: loss_of(1 + share) for share in (0.2, 0.35, 0.5, 0.6, 0.7, 0.8)}  # P at step 1000


def advise(*runs, pivot_tokens=11 * B, **options):
    return recommend(runs, pivot="python", pivot_tokens=pivot_tokens, **options)


def targets(shares, *, unit=B):
    return [
        run(name, loss=LOSSES[share], available=EXISTS[name] * unit)
        for name, share in zip(EXISTS, shares, strict=False)
    ]


SHARES = st.lists(st.sampled_from(list(LOSSES)), min_size=1, max_size=4)


@settings(max_examples=10, derandomize=True, deadline=None)
@given(SHARES, st.randoms(use_true_random=False), st.floats(0, 0.2), st.floats(0.35, 1))
def test_a_mix_sums_to_one_keeps_to_its_limits_and_does_not_depend_on_order(shares, random, floor, ceiling):
    limits = Limits(budget=40 * B, epochs=4, floors={"php": floor}, ceilings={"python": ceiling, "php": 0.7})
    runs = targets(shares)
    found = advise(*runs, limits=limits).mix
    assert found is not None
    assert sum(found.weights.values()) == pytest.approx(1, abs=1e-6)
    assert floor - 1e-6 <= found.weights["php"] <= 0.7 + 1e-6
    assert found.weights["python"] <= ceiling + 1e-6
    for name, share in found.languages.items():
        exists = {"python": 11, **EXISTS}[name] * B
        assert share.processed_tokens <= 4 * exists + 1
        assert share.unique_tokens <= exists
        assert share.epochs <= 4 + 1e-6
        low, high = share.weight_interval
        assert share.weight_bounds is None or share.weight_bounds[0] - 1e-6 <= low
        assert share.weight_bounds is None or high <= share.weight_bounds[1] + 1e-6
    assert sum(share.processed_tokens for share in found.languages.values()) == 40 * B
    assert advise(*random.sample(runs, len(runs)), limits=limits).mix == found


@settings(max_examples=6, derandomize=True, deadline=None)
@given(SHARES)
def test_weights_are_the_same_in_tokens_and_in_billions_of_tokens(shares):
    in_tokens, in_billions = advise(*targets(shares)), advise(*targets(shares, unit=1), pivot_tokens=11)
    assert in_tokens.mix.weights == pytest.approx(in_billions.mix.weights)


@pytest.mark.parametrize("limits", [None, Limits(floors={"csharp": 0.2}, ceilings={"python": 0.5})])
def test_a_higher_share_of_the_pivot_at_its_best_checkpoint_gives_less_of_a_target(limits):
    other = run("csharp", loss=1.5, available=16 * B)
    weights = [advise(run("php", loss=loss), other, limits=limits).mix.weights for loss in LOSSES.values()]
    php = [one["php"] for one in weights]
    assert php == sorted(php, reverse=True)
    assert php[0] > php[-1]
    for name in ("python", "csharp"):
        assert (np.diff([one[name] for one in weights]) >= -1e-6).all()


def test_unique_tokens_processed_tokens_and_weights_are_kept_apart():
    found = advise(run(loss=1.6875), limits=Limits(budget=32 * B, floors={"php": 0.5})).mix
    php, python = found.languages["php"], found.languages["python"]
    assert php.weight == 0.5
    assert php.wanted_weight == pytest.approx(0.3125)
    assert php.processed_tokens == 16 * B
    assert php.unique_tokens == pytest.approx(5 * B)  # Algorithm 1's, whatever the weight
    assert php.epochs == pytest.approx(3.2)
    assert (python.unique_tokens, python.available_tokens) == (11 * B, 11 * B)


def test_more_unique_tokens_are_kept_only_where_they_would_be_read_too_often_and_that_is_said():
    found = advise(run(loss=1.6875), limits=Limits(budget=80 * B, floors={"php": 0.5}))
    php = found.mix.languages["php"]
    assert php.unique_tokens == 10 * B
    assert php.epochs == 4
    assert "PHP keeps more than Algorithm 1's unique tokens" in found.verdict


def test_without_a_budget_nothing_is_said_of_processed_tokens():
    assert advise(run()).mix.languages["php"].processed_tokens is None


def test_every_binding_limit_is_named_with_what_it_costs():
    found = advise(run(loss=1.6875), limits=Limits(floors={"php": 0.5}, ceilings={"python": 0.9}))
    assert [one.language for one in found.binding] == ["php"]
    assert "The floor of PHP binds: 50.0% where 31.2% is wanted." in found.verdict


def test_intervals_are_of_the_mix_within_its_limits():
    mean = peak_at(1000, draws=[200, 1000] * 50)
    free = advise(run(loss=1.5, mean=mean)).mix.languages["php"].weight_interval
    held = advise(run(loss=1.5, mean=mean), limits=Limits(ceilings={"php": 0.3})).mix.languages["php"]
    assert free == pytest.approx((0.1, 0.5))
    assert held.weight_interval == pytest.approx((0.1, 0.3))


def test_the_present_mix_is_the_natural_one_unless_another_is_given():
    natural = advise(run())
    assert natural.mix.languages["php"].present_weight == pytest.approx(23 / 34)
    assert "the natural mix, taken for yours" in natural.verdict
    own = advise(run(), present={"php": 0.25, "python": 0.75})
    assert own.mix.languages["php"].present_weight == 0.25
    assert "taken for yours" not in own.verdict


def test_the_decision_is_that_of_the_gain_and_opens_the_verdict():
    change = advise(run(loss=1.6875))
    assert change.mix.decision == change.gain.decision == "change"
    assert change.verdict.startswith("Change your mix")
    keep = advise(run(loss=1.6875), minimum_gain=0.2)
    assert keep.mix.decision == "keep"
    assert keep.verdict.startswith("Keep your mix")
    assert keep.mix.weights == change.mix.weights


def test_a_present_mix_beyond_the_limits_is_not_to_be_kept():
    kept = advise(run(loss=1.6875), minimum_gain=0.2)
    assert kept.mix.decision == "keep"
    broken = advise(run(loss=1.6875), minimum_gain=0.2, limits=Limits(ceilings={"php": 0.5}))
    assert broken.mix.decision == "change"
    assert "since yours does not keep to the limits (PHP 67.6%, ceiling 50.0%)" in broken.verdict


@pytest.mark.parametrize(
    ("present", "says"),
    [
        ({"python": 1.0}, "the present mix is of python, the recommended one of python, php"),
        ({"python": 0.5, "php": 0.4}, r"sum to 0\.9, not 1"),
        ({"python": 1.5, "php": -0.5}, r"present weight of python is 1\.5"),
    ],
)
def test_a_present_mix_that_is_none_is_refused(present, says):
    with pytest.raises(InputError, match=says):
        advise(run(), present=present)


def test_a_minimum_gain_below_zero_is_refused():
    with pytest.raises(InputError, match=r"minimum gain of -0\.1"):
        advise(run(), minimum_gain=-0.1)


# --- what moves it


def test_the_input_that_moves_the_mix_most_comes_first_and_is_named():
    found = advise(run("php", loss=1.6875), run("csharp", loss=1.5, available=16 * B))
    moved = [one.moved for one in found.sensitivity]
    assert moved == sorted(moved, reverse=True)
    assert f"What moves the mix most is the {found.sensitivity[0].name}." in found.verdict


def test_the_range_of_a_weight_is_that_of_the_input_alone():
    mean = peak_at(1000, draws=[200, 1000] * 40)
    (swing,) = [one for one in advise(run(loss=1.5, mean=mean)).sensitivity if one.name == "best step of PHP"]
    assert swing.weights["php"] == pytest.approx((0.1, 0.5))
    assert swing.moved == pytest.approx(0.4)


def test_another_set_of_problems_that_could_have_been_chosen_is_an_input():
    one = replace(run(loss=1.5), other_best={"problems of the groups 'both'": 200})
    swing = {swing.name: swing for swing in advise(one).sensitivity}["problem set of PHP"]
    assert swing.weights["php"] == pytest.approx((0.1, 0.5))
    assert "problem set" in advise(one).targets["php"].influence


def test_tokens_that_exist_move_the_mix_only_where_text_runs_out():
    free = [one.name for one in advise(run(loss=1.6875)).sensitivity]
    short = [one.name for one in advise(run(loss=1.2, available=8 * B)).sensitivity]
    assert not [name for name in free if "available" in name]
    assert "available tokens of PHP" in short
    assert "available tokens of Python" in short


def test_an_input_that_may_leave_no_mix_is_said_to():
    found = advise(run(loss=1.6875), limits=Limits(budget=100 * B))
    assert [one.name for one in found.sensitivity if one.infeasible] == ["available tokens of PHP"]


# --- refusals


def test_a_mean_score_without_a_best_checkpoint_is_refused_in_words():
    found = advise(run(mean=replace(peak_at(1000), best_step_=None, verdict_="flat: nothing is solved")))
    assert found.mix is None
    assert "has no best checkpoint for PHP: flat: nothing is solved" in found.verdict


def test_a_refusal_among_several_says_how_to_have_a_mix_of_the_others():
    found = advise(run("php"), run("csharp", continues=False))
    assert "For a mix without C#, give the other series alone." in found.verdict
    assert "give the other series" not in advise(run("csharp", continues=False)).verdict


def test_conflicting_limits_are_refused_before_anything_else():
    with pytest.raises(InputError, match=r"floors sum to 1\.2"):
        advise(run(continues=False), limits=Limits(floors={"php": 0.7, "python": 0.5}))


# --- the document


def test_the_same_input_gives_the_same_bytes_whatever_the_order(tmp_path):
    runs = [run("php"), run("csharp", loss=1.5, available=16 * B)]
    advise(*runs).mix.save(tmp_path / "one.json")
    advise(*reversed(runs)).mix.save(tmp_path / "other.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_the_provenance_says_what_the_mix_was_made_from():
    origin = {"series": "php-run", "weights": "0123"}
    limits = Limits(budget=40 * B, floors={"php": 0.1})
    told = advise(replace(run(), origin=origin), limits=limits).mix.provenance
    assert told["runs"]["php"]["series"] == "php-run"
    assert told["runs"]["php"]["best by"] == "all problems"
    assert set(told["runs"]["php"]["settings"]) >= {"level", "stage draws", "stage seed", "loss resamples"}
    assert told["limits"] == limits.model_dump(mode="json")
    assert told["babelscope"]


def test_a_recommendation_under_limits_survives_json():
    found = advise(run(), limits=Limits(budget=40 * B, floors={"php": 0.1}))
    assert Recommendation.model_validate_json(found.model_dump_json()) == found
