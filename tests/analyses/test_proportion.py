"""The pivot's share against closed forms, the paper's vectors and simulated documents."""

import numpy as np
import pandas as pd
import pytest

from babelscope.analyses.proportion import CAVEAT, LossProportion, WorkingLanguageProportion, pivot_share
from babelscope.core.errors import InputError
from babelscope.core.stats import percentile_interval

STEPS = np.array([0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000])


def curve(steps, *, top=3.0, floor=1.0):
    """A loss that falls linearly in log10(step), from `top` at step 100 to `floor` at the last step."""
    x = (np.log10(np.maximum(steps, 0.5)) - 2) / (np.log10(steps[-1]) - 2)
    return top + (floor - top) * x


def scored(losses, *, documents=50, spread=0.0, seed=0):
    """Summed losses (steps, documents) and token counts whose token-weighted mean is `losses` exactly."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(20, 200, documents)
    own = spread * rng.standard_normal(documents)
    own -= own @ tokens / tokens.sum()
    return (losses[:, None] + own) * tokens, tokens


def fitted(losses, steps=STEPS, *, warmup_steps=0, **options):
    return LossProportion(warmup_steps=warmup_steps).fit(steps, *scored(losses, **options))


@pytest.mark.parametrize(
    ("loss", "share"), [(1.6875, 0.6875), (1.5238095, 0.5238095), (2.0, 1.0), (1.0, 0.0)]
)
def test_eq_2_with_its_sign_corrected(loss, share):
    assert pivot_share(loss, alpha=2.0, beta=1.0) == pytest.approx(share)


def test_the_share_falls_as_training_goes_on_which_the_printed_sign_contradicts():
    losses = curve(STEPS)
    printed = (losses[5] - losses) / (losses[5] - losses[-1])
    found = fitted(losses)
    assert (np.diff(found.proportion_) < 0).all()
    np.testing.assert_allclose(found.proportion_, 1 - printed)


@pytest.mark.parametrize("beta", [2.0, 2.5])
def test_alpha_not_above_beta_is_refused_with_both_numbers(beta):
    with pytest.raises(InputError, match=rf"alpha = 2 is not above beta = {beta:g}.*train longer"):
        pivot_share(2.0, alpha=2.0, beta=beta)


def test_a_loss_that_never_falls_after_alpha_is_refused():
    with pytest.raises(InputError, match="alpha = 2 is not above beta = 2"):
        fitted(np.full(len(STEPS), 2.0))


def test_in_a_long_run_alpha_is_the_checkpoint_nearest_to_step_100_in_log_steps():
    steps = np.array([0, 10, 40, 290, 1000, 10000])
    found = fitted(curve(steps), steps, warmup_steps=2000)
    assert found.alpha_step_ == 40  # 250 % away, against 290 %
    assert found.at(40) == pytest.approx(1)


@pytest.mark.parametrize(("warmup", "alpha_step"), [(50, 100), (150, 300), (16, 30), (0, 1)])
def test_in_a_short_run_alpha_is_the_end_of_warm_up_plus_the_same_again(warmup, alpha_step):
    steps = np.array([0, 1, 3, 10, 30, 100, 300, 1000])
    found = fitted(np.linspace(4, 1, 8), steps, warmup_steps=warmup)
    assert found.alpha_step_ == alpha_step


def test_beta_ignores_one_lucky_checkpoint_but_not_the_end_of_a_falling_curve():
    losses = curve(STEPS)
    assert fitted(losses).beta_ == pytest.approx(1.0)
    assert fitted(losses).beta_step_ == 30000
    lucky = losses.copy()
    lucky[6] = 0.2
    found = fitted(lucky)
    assert found.beta_ == pytest.approx(1.0)
    assert found.proportion_[6] < 0  # reported as it is, and clipped only to be shown
    assert found.to_frame()["shown"].between(0, 1).all()


def test_documents_are_weighted_by_their_tokens():
    losses = np.linspace(3, 1, len(STEPS))[:, None] * [1.0, 2.0]
    tokens = np.array([100, 300])
    found = LossProportion(warmup_steps=0).fit(STEPS, losses * tokens, tokens)
    np.testing.assert_allclose(found.losses_, losses @ [0.25, 0.75])


def test_a_document_without_tokens_changes_nothing():
    nll, tokens = scored(curve(STEPS), spread=0.3)
    with_empty = LossProportion(warmup_steps=0).fit(
        STEPS, np.column_stack([nll, np.zeros(len(STEPS))]), np.append(tokens, 0)
    )
    without = LossProportion(warmup_steps=0).fit(STEPS, nll, tokens)
    np.testing.assert_allclose(with_empty.interval_, without.interval_)


def test_what_all_checkpoints_share_cancels_and_leaves_no_width():
    """Hard and easy documents shift every checkpoint alike, so P does not move with the sample."""
    found = fitted(curve(STEPS), spread=0.5)
    np.testing.assert_allclose(found.interval_, found.proportion_[:, None] * [1, 1], atol=1e-9)


def test_the_interval_covers_the_share_of_the_population_of_documents():
    """Documents fall at their own speed; the truth is the share under their mean."""
    steps, rng, inside = np.array([0, 30, 100, 300, 1000, 10000]), np.random.default_rng(0), 0
    shape = np.array([4.0, 3.5, 3.0, 2.4, 1.9, 1.0])
    truth = (2.4 - 1.0) / (3.0 - 1.0)
    for _ in range(200):
        losses = shape[:, None] + 0.4 * rng.standard_normal((6, 60))
        tokens = np.full(60, 100)
        found = LossProportion(warmup_steps=0, resamples=200).fit(steps, losses * tokens, tokens)
        low, high = found.interval_[3]
        inside += low <= truth <= high
    assert inside / 200 > 0.87


def test_the_band_holds_the_shares_of_other_alphas_and_of_shorter_runs():
    steps = np.array([1, 50, 70, 100, 140, 200, 1000, 10000])
    losses = curve(steps)
    found = fitted(losses, steps)
    table = found.variants_at(200)
    assert sorted(table["alpha_step"].unique()) == [50, 70, 100, 140, 200]
    # 100 → 10,000 are two decades; without the last quarter or half of them 1,000 is the last checkpoint.
    assert sorted(table["last_step"].unique()) == [1000, 10000]
    by_hand = [(losses[5] - end) / (start - end) for start in losses[1:6] for end in (losses[6], losses[7])]
    low, high = found.band_[5]
    assert low == pytest.approx(min(by_hand))
    assert high == pytest.approx(max(by_hand))
    assert (found.band_[:, 0] <= found.proportion_ + 1e-12).all()
    assert (found.proportion_ <= found.band_[:, 1] + 1e-12).all()


def test_a_shorter_run_says_nothing_about_the_checkpoints_that_it_lacks():
    steps = np.array([1, 100, 300, 1000, 3000, 10000])
    table = fitted(curve(steps), steps).variants_at(3000)
    assert table.loc[table["last_step"] < 3000, "proportion"].isna().all()


def test_between_checkpoints_the_share_is_linear_in_log_steps():
    found = fitted(curve(STEPS))
    assert found.at(np.sqrt(300 * 1000)) == pytest.approx((found.at(300) + found.at(1000)) / 2)
    found = fitted(curve(STEPS), spread=0.5)
    np.testing.assert_allclose(found.draws_at(np.array([300.0, 1000.0])), [found.at(300), found.at(1000)])


def test_the_result_carries_the_warning_that_it_is_no_evidence_of_transfer():
    assert "not evidence of transfer" in CAVEAT
    assert fitted(curve(STEPS)).caveat_ == CAVEAT
    assert "never evidence of transfer" in (
        __import__("babelscope.analyses.proportion").analyses.proportion.__doc__
    )


def test_one_row_per_checkpoint_in_the_table():
    table = fitted(curve(STEPS), spread=0.1).to_frame()
    assert table["step"].tolist() == STEPS.tolist()
    assert list(table) == ["step", "loss", "proportion", "low", "high", "band_low", "band_high", "shown"]


@pytest.mark.parametrize(
    ("steps", "nll", "tokens", "says"),
    [
        ([0, 10, 5, 20], np.ones((4, 3)), [1, 1, 1], r"increase.*\[0, 10, 5, 20\]"),
        ([0, 10, 20], np.ones((3, 3)), [1, 1, 1], "2 checkpoints after step 0"),
        ([1, 10, 20], np.ones((4, 3)), [1, 1, 1], r"\(3,\) steps for values of shape \(4, 3\)"),
        ([1, 10, 20], np.ones((3, 3)), [1, 1], r"\(2,\) documents"),
        ([1, 10, 20], np.ones((3, 1)), [5], "1 held-out documents"),
        ([1, 10, 20], np.array([[1, 1], [np.nan, 1], [1, 1]]), [1, 1], r"not a number at steps \[10\]"),
    ],
)
def test_losses_that_cannot_be_used_are_refused_in_words(steps, nll, tokens, says):
    with pytest.raises(InputError, match=says):
        LossProportion(warmup_steps=0).fit(np.array(steps), nll, np.array(tokens))


def test_a_fall_within_the_noise_of_few_documents_is_not_resolved():
    rng = np.random.default_rng(0)
    steps, tokens = np.array([1, 100, 1000, 10000]), np.full(4, 50)
    losses = 2 + rng.standard_normal((4, 4))
    losses += np.array([2.0, 1.01, 1.005, 1.0])[:, None] - losses.mean(1, keepdims=True)
    with pytest.raises(InputError, match=r"alpha = 1\.01 and beta = 1 differ by less than the 4 held-out"):
        LossProportion(warmup_steps=0).fit(steps, losses * tokens, tokens)


def test_working_language_takes_draws_or_an_interval_in_the_same_form():
    rng = np.random.default_rng(0)
    steps, share = np.array([0, 10, 100, 1000]), np.array([np.nan, 0.9, 0.5, 0.2])
    draws = share + 0.05 * rng.standard_normal((4000, 4))
    by_draws = WorkingLanguageProportion().fit(steps, share, draws=draws)
    by_interval = WorkingLanguageProportion(resamples=4000).fit(steps, share, interval=by_draws.interval_)
    np.testing.assert_allclose(by_interval.draws_[:, 1:].std(0), 0.05, rtol=0.05)
    assert list(by_interval.to_frame()) == ["step", "proportion", "low", "high"]
    assert pd.isna(by_draws.to_frame()["low"][0])  # no cell held an identifier: undefined, not 0


def test_working_language_of_few_concepts_has_the_same_intervals_as_its_figure():
    """Both are widened alike; otherwise one report would give two intervals for one number."""
    steps, draws = np.array([0, 1, 3, 10]), np.random.default_rng(0).normal(0.5, 0.05, (1000, 4))
    found = WorkingLanguageProportion().fit(steps, draws.mean(0), draws=draws, concepts=5)
    np.testing.assert_array_equal(found.interval_, percentile_interval(draws, clusters=5))
    plain = WorkingLanguageProportion().fit(steps, draws.mean(0), draws=draws)
    assert (np.ptp(found.interval_, axis=1) > 1.2 * np.ptp(plain.interval_, axis=1)).all()


def test_working_language_wants_draws_or_an_interval_and_not_both():
    steps, share = np.array([1, 10, 100]), np.array([0.9, 0.5, 0.2])
    with pytest.raises(InputError, match="either draws or interval"):
        WorkingLanguageProportion().fit(steps, share)
    with pytest.raises(InputError, match=r"draws have shape \(5, 2\)"):
        WorkingLanguageProportion().fit(steps, share, draws=np.ones((5, 2)))
    with pytest.raises(InputError, match=r"interval has shape \(2, 2\)"):
        WorkingLanguageProportion().fit(steps, share, interval=np.ones((2, 2)))
