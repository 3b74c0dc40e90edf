"""Stages on published curves, on the simulations of the method's own literature, and on nothing at all."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector
from babelscope.core.errors import InputError

# The one published checkpoint curve: "The Rise and Down of Babel Tower", PHP run, of 161 problems.
PUBLISHED = ScoreCurve.from_counts(
    [100, 1000, 5000, 15000, 25000, 35000, 45000], [20, 27, 25, 16, 20, 17, 16], 161
)
# Small models that learn a second language: problems known only from the first, asked in the second, of 80.
BUILT_INS = ScoreCurve.from_counts(
    [75, 100, 150, 200, 250, 300, 400, 500, 600, 700], [0, 5, 11, 21, 22, 23, 18, 13, 11, 6], 80
)
EARLY_ZEROS = ScoreCurve.from_counts(
    [50, 75, 100, 125, 150, 175, 250, 300, 400], [0, 0, 8, 20, 22, 16, 8, 3, 2], 80
)


def detect(curve, *, draws=199, **settings):
    return StageDetector(draws=draws, **settings).fit(curve)


def log_spaced(n):
    return np.unique(np.logspace(2, 5, n).round().astype(int))


def babel(rng, n):
    """Truth of the published comparison of detectors: .10 → .19 → .11, flat; breaks as parts of the run."""
    breaks = rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.75)
    return breaks, np.interp(np.linspace(0, 1, n), [0, *breaks, 1], [0.10, 0.19, 0.11, 0.11])


def drawn(p, problems, rng):
    return ScoreCurve.from_counts(log_spaced(len(p)), rng.binomial(problems, p), problems)


def with_shared_problems(p, problems, rng):
    """Outcomes with a difficulty per problem, so that checkpoints agree on which they solve."""
    difficulty = rng.normal(scale=1.5, size=(problems, 1))
    seen = difficulty + rng.normal(size=(problems, len(p)))
    reach = np.quantile(rng.normal(scale=np.hypot(1.5, 1), size=200_000), p)
    return ScoreCurve.from_outcomes(log_spaced(len(p)), seen < reach)


def test_the_published_curve_is_not_resolvable_and_more_problems_are_asked_for():
    stages = detect(PUBLISHED)
    assert not stages.resolved_
    assert not stages.rises_and_falls_
    assert stages.verdict_.startswith("not resolvable")
    assert "with 161 problems" in stages.verdict_
    assert stages.needed_ is not None
    assert stages.needed_.problems is not None
    assert 161 < stages.needed_.problems < 2000
    assert f"about {stages.needed_.problems:,} problems or " in stages.verdict_
    assert stages.stages_ == []
    assert stages.best_step_ is None


def test_a_clear_rise_and_fall_is_found_with_eighty_problems():
    stages = detect(BUILT_INS)
    assert stages.shape_ == "rise-fall"
    assert [stage.name for stage in stages.stages_] == ["translation", "transition"]
    assert stages.rises_and_falls_
    assert stages.best_step_ in (200, 250, 300)  # .26, .28, .29 of the problems
    assert stages.fall_.low > 0.05


def test_early_zeros_are_fitted_as_counts():
    stages = detect(EARLY_ZEROS)
    assert stages.rises_and_falls_
    assert stages.best_step_ in (125, 150, 175)
    assert stages.band_[0, 1] < 0.06  # Wilson's upper end for 0 of 80 is .046


def test_a_curve_that_rises_throughout_is_best_at_its_end():
    steps = [0, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 30000, 40000, 50000]
    stages = detect(ScoreCurve.from_counts(steps, [3, 10, 14, 16, 20, 22, 25, 27, 28, 30, 32, 33], 164))
    assert stages.shape_ == "only rising"
    assert stages.best_step_ == 50000
    assert not stages.rises_and_falls_


@pytest.mark.parametrize(
    ("levels", "shape"),
    [
        ([0.1, 0.3, 0.3], "rise-plateau"),
        ([0.1, 0.3, 0.15, 0.15], "translation-transition-stabilization"),
        ([0.1, 0.3, 0.15, 0.2], "translation-transition-stabilization"),
        ([0.1, 0.25, 0.15, 0.4], "best at the end"),
        ([0.05, 0.25, 0.08, 0.25, 0.08], "two peaks"),
        ([0.3, 0.1, 0.3], "fall-rise"),
        ([0.1, 0.3], "only rising"),
        ([0.08, 0.08, 0.08, 0.3], "late rise"),
    ],
)
def test_shapes_are_told_apart_with_enough_problems(levels, shape):
    n = 25
    p = expit(
        np.interp(
            np.arange(n), np.linspace(0, n - 1, len(levels)), np.log(levels) - np.log1p(-np.array(levels))
        )
    )
    assert detect(drawn(p, 4000, np.random.default_rng(1))).shape_ == shape


def test_flat_is_said_only_where_a_bump_would_have_been_seen():
    rng = np.random.default_rng(0)
    few, many = (detect(drawn(np.full(20, 0.15), problems, rng)) for problems in (80, 2000))
    assert not few.resolved_
    assert few.shape_ == "not resolvable"
    assert many.resolved_
    assert many.shape_ == "flat"


@pytest.mark.parametrize("solved", [0, 80])
def test_a_series_that_solves_nothing_or_everything_is_not_an_error(solved):
    stages = detect(ScoreCurve.from_counts(log_spaced(8), np.full(8, solved), 80))
    assert stages.breaks_ == []
    assert np.isfinite(stages.fitted_).all()
    assert abs(stages.fitted_ - solved / 80).max() < 0.01
    assert (stages.best_step_, stages.best_interval_) == (None, None)
    assert stages.to_document()["best"] is None
    assert ("no problem is solved" if solved == 0 else "every problem is solved") in stages.verdict_


def test_a_fitted_slope_of_less_than_one_problem_is_no_rise():
    """Of 80 problems two are solved once each: the control arm of the small Babel looks like this."""
    steps = [*range(11), 12, 14, 16, 19, 22, 26, 30, 35, 41, 48, 56, 65, 75, 87, 101, 117, 136, 158, 183]
    steps += [212, 246, 285, 330, 382, 443, 514, 596, 691, 800]
    solved = np.zeros((80, len(steps)), bool)
    solved[26, steps.index(87)] = solved[56, steps.index(117)] = True
    stages = detect(ScoreCurve.from_outcomes(steps, solved))
    assert stages.verdict_.startswith("flat: the score does not resolvably change over the whole run")
    assert not stages.rises_and_falls_


def test_step_0_is_shown_and_not_fitted():
    steps, solved = np.append(0, EARLY_ZEROS.steps), np.append(70, EARLY_ZEROS.solved)
    with_start, without = detect(ScoreCurve.from_counts(steps, solved, 80)), detect(EARLY_ZEROS)
    assert np.isnan(with_start.fitted_[0])
    np.testing.assert_array_equal(with_start.fitted_[1:], without.fitted_)
    assert with_start.verdict_ == without.verdict_
    document = with_start.to_document()
    assert (document["steps"][0], document["fitted"][0], document["score"][0]) == (0, None, 70 / 80)


def test_the_document_is_json_and_says_what_the_detector_says():
    stages = detect(BUILT_INS)
    document = json.loads(json.dumps(stages.to_document(), allow_nan=False))
    assert document["verdict"] == stages.verdict_
    assert document["breaks"][0]["step"] == stages.breaks_[0].step
    assert document["best"]["step"] == stages.best_step_
    assert len(document["fitted_low"]) == len(BUILT_INS.steps)
    assert sum(document["posterior"]) == pytest.approx(1)


def test_one_seed_gives_one_answer():
    first, second, third = (detect(BUILT_INS, seed=seed).to_document() for seed in (3, 3, 4))
    assert first == second
    assert first["fitted_low"] != third["fitted_low"]


def test_best_steps_are_the_peaks_of_their_curves():
    stages = detect(BUILT_INS)
    np.testing.assert_array_equal(stages.best_draws_, BUILT_INS.steps[stages.peaked_draws_.argmax(axis=1)])
    low, high = stages.best_interval_
    assert np.mean((stages.best_draws_ < low) | (stages.best_draws_ > high)) <= 0.05


def test_knowing_which_problems_are_solved_resolves_more_than_counts():
    rng, widths = np.random.default_rng(0), []
    _, p = babel(rng, 12)
    for _ in range(10):
        curve = with_shared_problems(p, 161, rng)
        counts = ScoreCurve.from_counts(curve.steps, curve.solved, curve.total)
        falls = [detect(known).fall_ for known in (curve, counts)]
        widths.append([fall.high - fall.low for fall in falls])
    by_problem, by_count = np.mean(widths, axis=0)
    assert by_problem < 0.95 * by_count


def test_the_level_is_of_intervals_and_not_of_tests():
    wide, narrow = detect(BUILT_INS), detect(BUILT_INS, level=0.6)
    assert wide.p_values_ == narrow.p_values_
    assert np.diff(narrow.band_).mean() < 0.6 * np.diff(wide.band_).mean()


def test_breaks_lie_within_their_intervals():
    for one in detect(BUILT_INS).breaks_:
        assert one.low <= one.step <= one.high
        assert one.step in BUILT_INS.steps


def test_curves_over_tokens_have_the_shape_of_those_over_steps():
    tokens = replace(BUILT_INS, steps=BUILT_INS.steps * 1000, unit="tokens")
    by_step, by_token = detect(BUILT_INS), detect(tokens)
    assert by_token.shape_ == by_step.shape_
    assert by_token.best_step_ == 1000 * by_step.best_step_
    assert "until 250,000 tokens" in by_token.verdict_
    assert by_token.to_document()["x"] == "tokens"


def test_many_samples_of_the_same_problems_narrow_the_band_less_than_as_many_problems():
    rng, steps = np.random.default_rng(0), log_spaced(12)
    solves = rng.beta(0.5, 1.5, size=(100, 1)) * np.ones(12)
    wide, samples = (
        detect(ScoreCurve.from_outcomes(steps, rng.binomial(n, solves), samples=n)) for n in (1, 16)
    )
    problems = detect(ScoreCurve.from_counts(steps, rng.binomial(1600, 0.25, 12), 1600))
    width = [np.diff(found.band_).mean() for found in (wide, samples, problems)]
    assert width[0] > width[1] > 1.5 * width[2]


@pytest.mark.parametrize(
    ("settings", "message"), [({"level": 95}, "level = 95"), ({"max_breaks": 7}, "max_breaks = 7")]
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        detect(BUILT_INS, **settings)


def rate_bound(repeats, *, level=0.05):
    """What a true rate of `level` exceeds once in a hundred."""
    return level + 2.33 * np.sqrt(level * (1 - level) / repeats)


@pytest.mark.parametrize("problems", [80, 1000])
def test_flat_curves_rarely_have_breaks(problems):
    rng = np.random.default_rng(0)
    found = [bool(detect(drawn(np.full(12, 0.15), problems, rng), draws=99).breaks_) for _ in range(25)]
    assert np.mean(found) <= rate_bound(25)


def test_two_breaks_are_mostly_found_at_20_checkpoints_and_1000_problems():
    rng, found, errors = np.random.default_rng(0), [], []
    for _ in range(20):
        breaks, p = babel(rng, 20)
        stages = detect(drawn(p, 1000, rng), draws=99)
        found.append(len(stages.breaks_))
        if found[-1] == 2:
            at = (np.log10([one.step for one in stages.breaks_]) - 2) / 3
            errors.append(np.abs(at - breaks).mean())
    assert np.mean(np.array(found) == 2) > 0.5
    assert np.mean(errors) < 0.07


@pytest.mark.slow
@pytest.mark.parametrize("n", [9, 20, 40])
@pytest.mark.parametrize("shared", [False, True])
def test_false_breaks_stay_at_their_level_in_many_flat_curves(n, shared):
    rng, make = np.random.default_rng(n), with_shared_problems if shared else drawn
    found = [bool(detect(make(np.full(n, 0.12), 161, rng)).breaks_) for _ in range(300)]
    assert np.mean(found) <= rate_bound(300)


@pytest.mark.slow
def test_a_rise_and_fall_is_rarely_claimed_of_a_plateau():
    rng = np.random.default_rng(0)
    plateau = expit(np.interp(np.linspace(0, 1, 12), [0, 0.3, 1], [-4, -1.5, -1.5]))
    claimed = [detect(with_shared_problems(plateau, 161, rng)).rises_and_falls_ for _ in range(300)]
    assert np.mean(claimed) <= rate_bound(300)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_intervals_hold_the_truth_as_often_as_they_say(noise):
    rng, steps, held = np.random.default_rng(0), log_spaced(20), []
    for _ in range(200):
        _, p = babel(rng, 20)
        scored = expit(np.log(p / (1 - p)) + noise * rng.standard_normal(20))
        stages = detect(drawn(scored, 1000, rng), level=0.9)
        inside = (stages.band_[:, 0] <= p) & (p <= stages.band_[:, 1])
        low, high = stages.best_interval_ or (0, np.inf)
        held.append([inside.mean(), low <= steps[p.argmax()] <= high])
    curve, best = np.mean(held, axis=0)
    assert 0.85 <= curve <= 0.97
    assert best >= 0.85


@pytest.mark.slow
def test_forty_checkpoints_take_seconds():
    started = time.process_time()
    StageDetector().fit(drawn(babel(np.random.default_rng(0), 40)[1], 1000, np.random.default_rng(0)))
    assert time.process_time() - started < 10
