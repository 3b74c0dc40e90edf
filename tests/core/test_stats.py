"""Intervals and resampling against scipy, closed forms, and what must be true of any bootstrap."""

import numpy as np
import pytest
from scipy.stats import binomtest

from babelscope.core.errors import InputError
from babelscope.core.stats import (
    Contrast,
    bootstrap_mean,
    mcnemar,
    paired_difference,
    percentile_interval,
    resample,
    wilson_interval,
)

CLUSTERS = np.repeat(["len", "str", "abs", "max", "min"], 6).tolist()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_agrees_with_scipy_also_at_none_and_all(level):
    solved, total = np.array([0, 1, 20, 80, 161]), np.array([80, 80, 161, 80, 161])
    theirs = [
        binomtest(int(k), int(n)).proportion_ci(level, method="wilson")
        for k, n in zip(solved, total, strict=True)
    ]
    np.testing.assert_allclose(wilson_interval(solved, total, level=level), theirs, atol=1e-12)


def test_wilson_of_no_problems_is_undefined():
    assert np.isnan(wilson_interval(0, 0)).all()


def test_more_solved_than_asked_is_refused_with_the_numbers():
    with pytest.raises(InputError, match="9 solved of 8"):
        wilson_interval(np.array([1, 9]), np.array([8, 8]))


def test_percentile_interval_ends_are_draws_that_leave_out_the_tails():
    draws = np.random.default_rng(0).permutation(np.arange(1000))
    low, high = percentile_interval(draws)
    assert (draws < low).sum() == 25
    assert (draws > high).sum() == 25
    assert {low, high} <= set(draws.tolist())


def test_percentile_interval_works_along_the_first_axis():
    draws = np.random.default_rng(0).normal(size=(500, 3, 2))
    interval = percentile_interval(draws, level=0.9)
    assert interval.shape == (3, 2, 2)
    np.testing.assert_array_equal(interval[1, 0], percentile_interval(draws[:, 1, 0], level=0.9))


def test_an_interval_over_five_clusters_holds_their_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(5), 8)
    held = {"plain": 0, "widened": 0}
    for _ in range(400):
        values = rng.normal(size=5)[clusters]
        draws = bootstrap_mean(values, clusters=clusters.tolist(), seed=rng)
        for name, (low, high) in {
            "plain": percentile_interval(draws),
            "widened": percentile_interval(draws, clusters=5),
        }.items():
            held[name] += low <= 0 <= high
    assert held["plain"] < 0.85 * 400  # 80 %: five clusters, resampled, spread too little
    assert 0.9 * 400 < held["widened"] < 0.98 * 400


def test_many_clusters_change_nothing_and_one_tells_nothing():
    draws = np.random.default_rng(0).normal(size=1000)
    np.testing.assert_allclose(
        percentile_interval(draws, clusters=100_000), percentile_interval(draws), rtol=0.02
    )
    assert np.isnan(percentile_interval(draws, clusters=1)).all()


def test_undefined_draws_are_left_out_and_infinite_ones_do_no_harm():
    draws = np.arange(1000.0)
    with_gaps = np.concatenate([draws, np.full(500, np.nan)])
    np.testing.assert_array_equal(percentile_interval(with_gaps), percentile_interval(draws))
    assert np.isnan(percentile_interval(np.full(10, np.nan))).all()
    assert percentile_interval(np.append(draws[:900], np.full(100, np.inf)))[1] == np.inf


def test_every_resample_has_as_many_members_as_the_sample():
    counts = resample(40, draws=50)
    assert (counts.sum(1) == 40).all()
    assert (resample(30, clusters=CLUSTERS, draws=50).sum(1) == 30).all()


def test_a_cluster_that_is_not_drawn_brings_none_of_its_members():
    counts = resample(30, clusters=CLUSTERS, draws=400).reshape(400, 5, 6)
    per_cluster = counts.sum(2)
    assert (per_cluster % 6 == 0).all()  # whole clusters
    assert np.mean(per_cluster == 0) == pytest.approx((4 / 5) ** 5, abs=0.05)


def test_variance_over_clusters_then_members_has_its_closed_form():
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(5, 1)) + rng.normal(size=(5, 6))).ravel()
    grouped = values.reshape(5, 6)
    expected = grouped.mean(1).var() / 5 + grouped.var(1).mean() / 30
    draws = bootstrap_mean(values, clusters=CLUSTERS, draws=20_000)
    assert draws.var() == pytest.approx(expected, rel=0.05)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.02)


def test_a_weighted_mean_is_a_ratio_of_sums():
    losses, tokens = np.array([1.0, 2.0, 4.0]), np.array([10, 20, 30])
    drawn = resample(3, draws=20, seed=5)
    expected = drawn @ (losses * tokens) / (drawn @ tokens)
    np.testing.assert_allclose(bootstrap_mean(losses, weights=tokens, draws=20, seed=5), expected)


def test_a_resample_without_weight_is_undefined_rather_than_zero():
    draws = bootstrap_mean(np.array([1.0, 0.0]), weights=np.array([1, 0]), draws=200)
    assert np.isnan(draws).mean() == pytest.approx(1 / 4, abs=0.1)
    assert set(draws[~np.isnan(draws)]) == {1.0}


def test_series_of_one_seed_are_resampled_together():
    values = np.random.default_rng(0).normal(size=(30, 4))
    together = bootstrap_mean(values, draws=50, seed=2)
    np.testing.assert_allclose(together[:, 2], bootstrap_mean(values[:, 2], draws=50, seed=2))


def test_a_seed_or_a_generator_gives_the_same_draws():
    values = np.arange(9.0)
    by_seed = bootstrap_mean(values, draws=10, seed=4)
    np.testing.assert_array_equal(by_seed, bootstrap_mean(values, draws=10, seed=np.random.default_rng(4)))
    assert not np.array_equal(by_seed, bootstrap_mean(values, draws=10, seed=5))


def test_pairing_takes_away_what_members_share():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=200)
    first, second = difficulty + 0.3 + 0.1 * rng.normal(size=200), difficulty + 0.1 * rng.normal(size=200)
    paired = paired_difference(first, second)
    assert paired.estimate == pytest.approx(first.mean() - second.mean())
    assert paired.resolved
    unpaired = bootstrap_mean(first, seed=1) - bootstrap_mean(second, seed=2)
    low, high = percentile_interval(unpaired)
    assert paired.high - paired.low < (high - low) / 3


def test_a_paired_interval_covers_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        pair = paired_difference(rng.normal(0.2, 1, 60), rng.normal(0, 1, 60), draws=300, seed=rng)
        covered += pair.low <= 0.2 <= pair.high
    assert covered / 300 == pytest.approx(0.95, abs=0.035)


def test_a_contrast_is_resolved_only_clear_of_zero():
    assert Contrast(0.1, 0.01, 0.2).resolved
    assert Contrast(-0.1, -0.2, -0.01).resolved
    assert not Contrast(0.1, -0.01, 0.2).resolved
    assert not Contrast(0.0, 0.0, 0.0).resolved


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resample(0), "nothing to resample"),
        (lambda: resample(3, clusters=["a", "b"]), "2 cluster labels for 3 values"),
        (lambda: paired_difference(np.ones(3), np.ones(4)), "3 and 4 values cannot be paired"),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_mcnemar_is_the_exact_test_of_the_answers_that_differ():
    first = np.array([1, 1, 1, 1, 0, 0, 1, 0], bool)
    second = np.array([0, 0, 0, 0, 1, 0, 1, 0], bool)
    found = mcnemar(first, second)
    assert (found.lost, found.gained) == (4, 1)
    assert found.p == pytest.approx(2 * (1 + 5) / 2**5)
    assert mcnemar(first, first).p == 1


def test_answers_to_different_questions_are_not_paired():
    with pytest.raises(InputError, match="3 and 2 answers"):
        mcnemar(np.ones(3, bool), np.ones(2, bool))
