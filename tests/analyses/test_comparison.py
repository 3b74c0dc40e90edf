"""Comparisons of arms against closed forms and simulated truth."""

import numpy as np
import pytest
from scipy.stats import norm, t

from babelscope.analyses.comparison import ArmComparison
from babelscope.core.errors import InputError
from babelscope.core.stats import LEVEL


def compare(outcomes, *, minimum_gain=0.0, **options):
    comparison = ArmComparison(
        recommended="recommended", problem_set="all problems", minimum_gain=minimum_gain, resamples=2000
    )
    return comparison.fit(outcomes, **options)


def runs(rng, shares, problems=400):
    """One run per share; every problem is solved with that probability."""
    return rng.random((len(shares), problems)) < np.array(shares)[:, None]


def test_a_clear_gain_is_called_one_and_its_difference_is_that_of_the_means():
    rng = np.random.default_rng(0)
    outcomes = {"recommended": runs(rng, [0.6, 0.62, 0.58]), "uniform": runs(rng, [0.4, 0.41, 0.39])}
    found = compare(outcomes)
    row = found.differences_.iloc[0]
    assert row["difference"] == pytest.approx(outcomes["recommended"].mean() - outcomes["uniform"].mean())
    assert row["gain"] == "gain"
    assert "recommended is better than uniform" in found.verdict_
    assert "all problems" in found.verdict_


def test_equal_arms_show_no_meaningful_gain():
    rng = np.random.default_rng(1)
    found = compare({"recommended": runs(rng, [0.5] * 3), "natural": runs(rng, [0.5] * 3)})
    assert found.differences_.iloc[0]["gain"] == "no meaningful gain"
    assert found.verdict_.startswith("No meaningful gain of recommended over natural")


def test_a_worse_arm_is_called_worse():
    rng = np.random.default_rng(2)
    found = compare({"recommended": runs(rng, [0.2, 0.22, 0.18]), "natural": runs(rng, [0.7] * 3)})
    assert found.differences_.iloc[0]["gain"] == "loss"


def test_a_resolved_gain_below_the_stated_minimum_is_not_meaningful():
    rng = np.random.default_rng(3)
    outcomes = {"recommended": runs(rng, [0.6] * 5, 2000), "natural": runs(rng, [0.5] * 5, 2000)}
    assert compare(outcomes).differences_.iloc[0]["gain"] == "gain"
    found = compare(outcomes, minimum_gain=0.2)
    assert found.differences_.iloc[0]["gain"] == "no meaningful gain"
    assert "below the stated minimum of 0.200" in found.verdict_


def test_with_one_seed_the_interval_is_that_of_the_paired_problems_and_says_what_it_lacks():
    rng = np.random.default_rng(4)
    outcomes = {"recommended": runs(rng, [0.6]), "natural": runs(rng, [0.5])}
    found = compare(outcomes)
    change = (outcomes["recommended"].astype(float) - outcomes["natural"])[0]
    half = norm.ppf((1 + LEVEL) / 2) * change.std() / np.sqrt(change.size)
    row = found.differences_.iloc[0]
    assert row["high"] - row["low"] == pytest.approx(2 * half, rel=0.1)
    assert row["seeds"] == "one"
    assert "not training noise" in found.verdict_


def test_when_only_seeds_vary_the_interval_is_students_over_seeds():
    """Every problem of a run has one value, so problems carry no noise."""
    ours, other = np.array([0.5, 0.6, 0.7]), np.array([0.3, 0.45, 0.4])
    outcomes = {"recommended": np.tile(ours[:, None], 50), "natural": np.tile(other[:, None], 50)}
    paired = compare(outcomes, seeds={"recommended": [1, 2, 3], "natural": [1, 2, 3]}).differences_.iloc[0]
    quantile = t.ppf((1 + LEVEL) / 2, 2)
    assert paired["seeds"] == "paired"
    half = quantile * (ours - other).std(ddof=1) / np.sqrt(3)
    assert paired["high"] - paired["low"] == pytest.approx(2 * half, rel=0.15)

    apart = compare(outcomes).differences_.iloc[0]
    variances = np.array([ours.var(ddof=1), other.var(ddof=1)]) / 3
    welch = variances.sum() ** 2 / (variances**2 / 2).sum()
    half = t.ppf((1 + LEVEL) / 2, welch) * np.sqrt(variances.sum())
    assert apart["seeds"] == "independent"
    assert apart["high"] - apart["low"] == pytest.approx(2 * half, rel=0.15)


def test_pairing_follows_the_seeds_and_not_the_order_of_the_rows():
    rng = np.random.default_rng(5)
    outcomes = {"recommended": runs(rng, [0.2, 0.5, 0.8]), "natural": runs(rng, [0.1, 0.4, 0.7])}
    seeds = {"recommended": [1, 2, 3], "natural": [1, 2, 3]}
    straight = compare(outcomes, seeds=seeds).differences_.iloc[0]
    turned = compare(
        {**outcomes, "natural": outcomes["natural"][::-1]}, seeds={**seeds, "natural": [3, 2, 1]}
    ).differences_.iloc[0]
    assert straight["low"] == pytest.approx(turned["low"])
    assert straight["high"] == pytest.approx(turned["high"])


def test_three_seeds_of_a_noisy_training_are_not_mistaken_for_a_gain():
    """No true difference, large training noise: a verdict other than 'no gain' must be rare."""
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(200):
        shares = rng.normal(0.5, 0.1, (2, 3))
        found = ArmComparison(recommended="recommended", problem_set="all", resamples=300).fit(
            {"recommended": runs(rng, shares[0], 160), "natural": runs(rng, shares[1], 160)}
        )
        wrong += found.differences_.iloc[0]["gain"] != "no meaningful gain"
    assert wrong / 200 < 1 - LEVEL + 0.04


def test_groups_are_described_apart_and_do_not_change_the_verdict():
    rng = np.random.default_rng(7)
    pivot_only, target_only = runs(rng, [0.9] * 3, 60), runs(rng, [0.1] * 3, 40)
    outcomes = {
        "recommended": np.hstack([pivot_only, target_only]),
        "natural": runs(rng, [0.5] * 3, 100),
        "uniform": runs(rng, [0.5] * 3, 100),
    }
    groups = ["pivot only"] * 60 + ["target only"] * 40
    found, without = compare(outcomes, groups=groups), compare(outcomes)
    assert found.differences_.equals(without.differences_)
    table = found.groups_.set_index(["other", "group"])
    assert table.loc[("natural", "pivot only"), "difference"] == pytest.approx(
        pivot_only.mean() - outcomes["natural"][:, :60].mean()
    )
    assert table.loc[("natural", "pivot only"), "low"] > 0
    assert table.loc[("natural", "target only"), "high"] < 0
    assert table["problems"].tolist() == [60, 40, 60, 40]
    assert without.groups_.empty


def test_the_metric_may_be_of_some_problems_while_every_group_is_described():
    gains = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)  # over two seeds
    arms = {"recommended": gains, "natural": np.array([[0, 0, 1, 1], [0, 0, 1, 0]], bool)}
    judged = np.array([True, True, False, False])
    found = compare(arms, groups=["told", "told", "own", "own"], judged=judged)
    assert found.differences_.iloc[0]["difference"] == 0.75
    assert found.scores_["score"].tolist() == [1, 0.5, 0, 0]
    levels = found.levels_.set_index(["arm", "group"])["score"]
    assert levels["recommended", "told"] == levels["natural", "own"] == 0.75
    with pytest.raises(InputError, match="1 of 4 problems are judged"):
        compare(arms, judged=np.array([True, False, False, False]))


def test_scores_list_every_training_run():
    rng = np.random.default_rng(8)
    outcomes = {"recommended": runs(rng, [0.5, 0.6]), "natural": runs(rng, [0.4])}
    scores = compare(outcomes, seeds={"recommended": [7, 8], "natural": [7]}).scores_
    assert scores["seed"].tolist() == [7, 8, 7]
    assert scores["score"].tolist() == pytest.approx(
        [*outcomes["recommended"].mean(1), *outcomes["natural"].mean(1)]
    )


@pytest.mark.parametrize(
    ("outcomes", "options", "says"),
    [
        ({"natural": np.ones((1, 4))}, {}, "'recommended' and at least one other"),
        ({"recommended": np.ones((1, 4)), "natural": np.ones((1, 5))}, {}, "different problems"),
        ({"recommended": np.ones((1, 4)), "natural": np.full((1, 4), np.nan)}, {}, r"'natural' must lie"),
        ({"recommended": np.ones((1, 4)), "natural": np.ones(4)}, {}, "seeds × problems"),
        ({"recommended": np.ones((1, 1)), "natural": np.ones((1, 1))}, {}, "1 problem;"),
        ({"recommended": np.ones((1, 4)), "natural": np.ones((1, 4))}, {"groups": ["a"]}, "1 group labels"),
        (
            {"recommended": np.ones((2, 4)), "natural": np.ones((2, 4))},
            {"seeds": {"recommended": [1, 2], "natural": [1, 1]}},
            r"2 runs of 'natural' with the seeds \[1, 1\]",
        ),
    ],
)
def test_outcomes_that_cannot_be_compared_are_refused_in_words(outcomes, options, says):
    with pytest.raises(InputError, match=says):
        compare(outcomes, **options)
