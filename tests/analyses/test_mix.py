"""Algorithm 1 against the paper's vectors and its closed form, and the refusals that keep it honest."""

from dataclasses import dataclass

import numpy as np
import pytest

from babelscope.analyses.mix import Recommendation, TargetRun, mean_score, recommend, target_tokens
from babelscope.analyses.proportion import LossProportion
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector
from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix

B = 10**9
STEPS = np.array([10, 50, 100, 200, 1000, 3000, 10000])


@dataclass
class Peak:
    """What a fitted StageDetector says, as far as it is read here."""

    best_step_: int
    best_draws_: np.ndarray
    curve_: ScoreCurve
    rises_and_falls_: bool = True
    resolved_: bool = True
    verdict_: str = "as told"
    level: float = 0.95
    draws: int = 40
    seed: int = 0

    @property
    def peaked_draws_(self):
        """Scores that fall off from each draw's best step, one tenth for a tenfold step."""
        return 0.5 - 0.1 * np.abs(np.log10(STEPS) - np.log10(self.best_draws_)[:, None])

    @property
    def best_interval_(self):
        return int(self.best_draws_.min()), int(self.best_draws_.max())


def peak_at(step, *, draws=(), **told):
    curve = ScoreCurve.from_counts(STEPS, np.ones(7, int), 10)
    return Peak(step, np.array([*draws] or [step] * 40), curve, **told)


def loss_of(at_1000, *, at_200=1.9, at_3000=1.1):
    """Alpha 2.0 at step 100, beta 1.0 at the end; all documents alike, so nothing is left to chance."""
    losses = np.array([5.0, 3.0, 2.0, at_200, at_1000, at_3000, 1.0])
    return LossProportion(warmup_steps=0, resamples=40).fit(
        STEPS, losses[:, None] * np.full(4, 10), np.full(4, 10)
    )


def run(language="php", *, loss=1.6875, available=23 * B, mean=None, continues=True, **told):
    return TargetRun(
        language=language,
        loss=loss_of(loss) if isinstance(loss, float) else loss,
        target_score=peak_at(1000, **told),  # type: ignore[arg-type]
        mean_score=mean or peak_at(1000),  # type: ignore[arg-type]
        available_tokens=available,
        continues_from_pivot=continues,
    )


def advise(*runs):
    return recommend(runs, pivot="python", pivot_tokens=11 * B)


@pytest.mark.parametrize(("share", "tokens"), [(0.6875, 5.0), (0.5238095, 10.0), (1.0, 0.0), (1.3, 0.0)])
def test_the_vectors_of_algorithm_1(share, tokens):
    assert target_tokens(11, share, available=23) == pytest.approx(tokens, abs=1e-4)


@pytest.mark.parametrize("share", [0.0, -0.2, 1e-9, 11 / 34])
def test_as_the_share_goes_to_zero_the_tokens_stop_at_what_exists(share):
    assert target_tokens(11, share, available=23) == pytest.approx(23)


def test_the_tokens_follow_the_closed_form_in_the_loss():
    alpha, beta, loss = 2.7, 0.9, np.linspace(1.4, 2.7, 50)
    share = (loss - beta) / (alpha - beta)
    np.testing.assert_allclose(
        target_tokens(11, share, available=1e3), 11 * (alpha - loss) / (loss - beta), atol=1e-12
    )


def test_the_step_at_which_the_papers_own_mix_is_reached_and_the_error_of_the_printed_sign():
    """PHP = 5 B next to Python = 11 B is Pbar = 0.6875, which the authors' fit y1 reaches at step 297."""
    share = 1.6166 - 0.3758 * np.log10(297)
    assert target_tokens(11, share, available=23) == pytest.approx(5.0, abs=0.02)
    assert target_tokens(11, 1 - 0.6875, available=100) == pytest.approx(24.2)


def test_one_target_gets_the_pivots_share_as_weights():
    found = advise(run(loss=1.6875))
    assert found.mix is not None
    assert found.mix.weights == pytest.approx({"python": 0.6875, "php": 0.3125})
    assert found.mix.languages["php"].unique_tokens == pytest.approx(5 * B)
    assert found.mix.languages["python"].unique_tokens == 11 * B
    assert found.targets["php"].proportion == pytest.approx(0.6875)
    assert found.mix.method == "algorithm-1"
    assert "5 B unique tokens" in found.verdict
    assert "Python 68.8%, PHP 31.2%" in found.verdict


def test_several_targets_are_each_computed_against_the_pivot_and_share_by_tokens():
    found = advise(run("php", loss=1.6875), run("csharp", loss=1.5238095238, available=16 * B))
    assert found.mix is not None
    assert found.mix.weights == pytest.approx({"python": 11 / 26, "php": 5 / 26, "csharp": 10 / 26})
    assert found.targets["php"] == advise(run("php", loss=1.6875)).targets["php"]


def test_the_interval_of_the_best_checkpoint_is_carried_into_tokens_and_weights():
    mean = peak_at(1000, draws=[200, 1000] * 50)
    found = advise(run(loss=1.5, mean=mean))
    estimate = found.targets["php"]
    assert estimate.best_interval == (200, 1000)
    assert estimate.proportion_interval == pytest.approx((0.5, 0.9))
    assert estimate.tokens_interval == pytest.approx((11 * B / 0.9 - 11 * B, 11 * B))
    assert found.mix is not None
    assert found.mix.languages["python"].weight_interval == pytest.approx((0.5, 0.9))
    assert found.mix.languages["php"].weight_interval == pytest.approx((0.1, 0.5))


def test_the_band_shows_the_other_alphas_and_shorter_runs():
    estimate = advise(run(loss=1.5)).targets["php"]
    # Alpha at step 50, 100 or 200; the run to 10,000, to 3,000 (three quarters) or to 1,000 (half).
    losses = {50: 3.0, 100: 2.0, 200: 1.9}
    by_hand = [(1.5 - beta) / (alpha - beta) for alpha in losses.values() for beta in (1.0, 1.1, 1.5)]
    assert estimate.proportion_band == pytest.approx((min(by_hand), max(by_hand)))
    assert estimate.tokens_band == (
        pytest.approx(11 * B / max(by_hand) - 11 * B),
        23 * B,  # beta of the shortest run is the loss itself: P = 0
    )


@pytest.mark.parametrize(
    ("available", "steps", "expected"),
    [(23 * B, [1000], "alpha"), (100 * B, [1000], "beta"), (100 * B, [200, 1000, 3000], "best step")],
)
def test_the_most_influential_input_is_the_one_that_moves_the_tokens_most(available, steps, expected):
    mean = peak_at(1000, draws=steps * 40)
    estimate = advise(run(loss=loss_of(1.5), available=available, mean=mean)).targets["php"]

    def tokens(*shares):
        found = [min(available, 11 * B * (1 - share) / share) if share > 0 else available for share in shares]
        return pytest.approx((min(found), max(found)))

    assert estimate.influence["alpha"] == tokens(0.5 / 2.0, 0.5 / 1.0, 0.5 / 0.9)
    assert estimate.influence["beta"] == tokens(0.5 / 1.0, 0.4 / 0.9, 0)
    assert estimate.influence["best step"] == (tokens(0.9, 0.1) if len(steps) > 1 else tokens(0.5))
    assert estimate.most_influential == expected


def test_more_than_exists_is_clipped_and_said():
    found = advise(run(loss=1.2, available=5 * B))
    assert found.mix is not None
    assert found.mix.languages["php"].unique_tokens == 5 * B
    assert found.mix.weights["php"] == pytest.approx(5 / 16)
    assert "asks for more PHP than the 5 B tokens that exist" in found.verdict
    assert found.reasons


def test_a_run_that_does_not_continue_from_a_pivot_model_is_refused():
    found = advise(run(continues=False))
    assert found.mix is None
    assert found.targets == {}
    assert "does not continue from a model of Python" in found.verdict
    assert "continue the pre-training of a Python model on PHP" in found.reasons[0]


def test_a_flat_score_is_refused_with_what_the_detector_says():
    rng = np.random.default_rng(0)
    steps = np.geomspace(10, 10000, 12).round().astype(int)
    flat = StageDetector(draws=99).fit(ScoreCurve.from_outcomes(steps, rng.random((100, 12)) < 0.3))
    assert not flat.rises_and_falls_
    one = run()
    found = advise(TargetRun("php", one.loss, flat, one.mean_score, one.available_tokens, True))
    assert found.mix is None
    assert flat.verdict_ in found.verdict


def test_a_resolved_rise_without_a_fall_is_refused_with_what_may_show_one():
    found = advise(run(rises_and_falls_=False, verdict_="only rising: ..."))
    assert found.mix is None
    assert "only rising" in found.verdict
    assert "A longer run" in found.verdict


@pytest.mark.parametrize("step", [50, 100])
def test_a_best_checkpoint_up_to_alpha_is_refused(step):
    found = advise(run(mean=peak_at(step)))
    assert found.mix is None
    assert f"step {step}, comes before the loss falls below alpha (step 100)" in found.verdict


def test_an_interval_that_reaches_what_exists_or_nothing_is_said_to_be_open_there():
    def said(*steps):
        return advise(run(loss=1.5, mean=peak_at(1000, draws=steps * 20))).verdict

    assert "do not bound the amount" not in said(200, 1000)
    assert "The interval of PHP reaches all that exists" in said(1000, 10000)  # P = 0 at the end
    assert "The interval of PHP reaches none at all" in said(100, 1000)  # P = 1 at alpha


def test_resamples_in_which_the_proportion_is_not_defined_leave_intervals_of_numbers():
    loss = loss_of(1.5)
    loss.draws_[3] = np.nan  # as where alpha is not above beta
    found = advise(run(loss=loss))
    assert found.mix is not None
    assert np.isfinite(found.mix.languages["php"].weight_interval).all()


def test_one_refused_target_refuses_the_whole_mix_and_is_named():
    found = advise(run("php"), run("csharp", continues=False))
    assert found.mix is None
    assert "run on C#" in found.verdict
    assert "run on PHP" not in found.verdict


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([], "give at least one"),
        ([run("php"), run("php")], "each once"),
        ([run("python")], "not the pivot"),
        ([run(available=0)], "0 tokens of php"),
    ],
)
def test_targets_that_make_no_mix_are_refused_in_words(runs, says):
    with pytest.raises(InputError, match=says):
        advise(*runs)


def test_scores_beyond_the_last_held_out_loss_are_refused():
    short = LossProportion(warmup_steps=0, resamples=10).fit(
        STEPS[:-1], np.array([5.0, 3.0, 2.0, 1.9, 1.5, 1.0])[:, None] * np.full(2, 10), np.full(2, 10)
    )
    with pytest.raises(InputError, match="scored up to step 10000, but its held-out loss ends at step 3000"):
        advise(run(loss=short))


def test_a_recommendation_and_its_mix_survive_json(tmp_path):
    found = advise(run())
    assert Recommendation.model_validate_json(found.model_dump_json()) == found
    assert found.mix is not None
    found.mix.save(tmp_path / "mix.json")
    assert Mix.load(tmp_path / "mix.json") == found.mix


def test_the_mean_score_gives_both_languages_the_same_weight():
    steps = np.array([1, 2, 4, 8, 16, 32])
    pivot, target = np.array([90, 80, 70, 60, 50, 40]), np.array([1, 2, 3, 4, 3, 2])
    mean = mean_score(ScoreCurve.from_counts(steps, pivot, 100), ScoreCurve.from_counts(steps, target, 10))
    np.testing.assert_allclose(mean.solved / mean.total, (pivot / 100 + target / 10) / 2, atol=0.5 / 36)
    assert mean.total[0] == 36  # 4 / (1/100 + 1/10)


def test_the_mean_score_keeps_what_the_problems_share_between_checkpoints():
    rng = np.random.default_rng(0)
    pivot, target = rng.random((2, 50, 6)) < 0.5
    steps = np.array([1, 2, 4, 8, 16, 32])
    mean = mean_score(ScoreCurve.from_outcomes(steps, pivot), ScoreCurve.from_outcomes(steps, target))
    np.testing.assert_array_equal(mean.outcomes, np.vstack([pivot, target]))


def test_scores_at_different_steps_have_no_mean():
    steps = np.array([1, 2, 4, 8, 16, 32])
    curves = [ScoreCurve.from_counts(at, np.ones(6, int), 5) for at in (steps, [1, 2, 4, 8, 16, 64])]
    with pytest.raises(InputError, match=r"at steps \[32, 64\]"):
        mean_score(*curves)


def test_from_outcomes_and_losses_to_a_mix_that_holds_the_truth():
    """Pivot and target of 800 problems; their true mean peaks at step 316, where the true P is 0.75."""
    rng = np.random.default_rng(0)
    steps = np.unique(np.geomspace(10, 10000, 19).round().astype(int))
    x = np.log10(steps)
    hard = rng.normal(0, 1, (800, 1))

    def outcomes(scores):
        return rng.random((800, len(steps))) < 1 / (1 + np.exp(hard - np.log(scores / (1 - scores))))

    pivot = ScoreCurve.from_outcomes(steps, outcomes(np.interp(x, [1, 2.5, 3.2, 4], [0.7, 0.7, 0.4, 0.35])))
    target = ScoreCurve.from_outcomes(steps, outcomes(np.interp(x, [1, 2.5, 3.2, 4], [0.05, 0.45, 0.2, 0.2])))
    losses = np.interp(x, [1, 2, 4], [5, 3, 1]) + 0.3 * rng.standard_normal((80, 1))
    losses += 0.03 * rng.standard_normal((80, len(steps)))
    tokens = rng.integers(50, 300, 80)
    one = TargetRun(
        language="php",
        loss=LossProportion(warmup_steps=0).fit(steps, losses.T * tokens, tokens),
        target_score=StageDetector(draws=199).fit(target),
        mean_score=StageDetector(draws=199).fit(mean_score(pivot, target)),
        available_tokens=23 * B,
        continues_from_pivot=True,
    )
    found = advise(one)
    assert found.mix is not None, found.verdict
    low, high = found.targets["php"].tokens_interval
    assert low <= 11 * B / 0.75 - 11 * B <= high
    assert high < 23 * B
