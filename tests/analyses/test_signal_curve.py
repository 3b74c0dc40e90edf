"""Breaks of signals that come with bootstrap draws: known bends are found, and none where there are none."""

import json

import numpy as np
import pytest

from babelscope.analyses.signal_curve import SignalCurve, SignalDetector
from babelscope.analyses.signal_noise import training_noise
from babelscope.core.errors import InputError


def losses(rng, truth, *, n=14, members=40, common=0.05, training=0.02):
    """Documents that are hard or easy at every step alike; checkpoints better or worse on all of them."""
    steps = (10 ** np.linspace(2, 5, n)).round().astype(int)
    own = rng.normal(size=(members, 1)) + 0.3 * rng.normal(size=(members, n))
    documents = common * np.sqrt(members) * own
    shape = truth(np.log10(steps)) + training * rng.normal(size=n)
    times = rng.multinomial(members, np.full(members, 1 / members), size=300) / members
    return SignalCurve(
        name="the loss",
        unit="nats",
        scale="log",
        least=0.05,
        steps=steps,
        values=np.exp(shape + documents.mean(0)),
        draws=np.exp(shape + times @ documents),
        clusters=members,
    )


def through(*points):
    x, y = zip(*points, strict=True)
    return lambda at: np.interp(at, x, y)


def detect(curve, *, draws=99, **settings):
    return SignalDetector(draws=draws, **settings).fit(curve)


def test_a_rise_and_fall_is_found_with_its_turn_inside_the_interval():
    found = detect(losses(np.random.default_rng(0), through((2, 0), (3.3, 0.5), (5, -0.5))))
    assert found.shape_ == "rise-fall"
    assert [stage.name for stage in found.stages_] == ["rising", "falling"]
    assert found.breaks_[0].low <= 10**3.3 <= found.breaks_[0].high
    assert found.resolved_


def test_a_fall_between_two_plateaus_has_two_breaks():
    found = detect(losses(np.random.default_rng(1), through((2, 0), (3, 0), (4, -1), (5, -1)), n=16))
    assert found.shape_ == "flat-fall-flat"
    for one, truth in zip(found.breaks_, (1e3, 1e4), strict=True):
        assert one.low <= truth <= one.high


def test_a_straight_signal_with_common_noise_is_only_rising():
    found = detect(losses(np.random.default_rng(2), lambda x: 0.3 * x))
    assert found.shape_ == "only rising"
    assert found.breaks_ == []


def test_undefined_checkpoints_are_left_out_and_step_0_is_shown_only():
    curve = losses(np.random.default_rng(3), through((2, 0), (3.3, 0.5), (5, -0.5)))
    hole = curve.values.copy()
    hole[4] = np.nan
    steps = np.concatenate([[0], curve.steps])
    values, draws = np.concatenate([[9], hole]), np.column_stack([np.full(300, 9.0), curve.draws])
    found = detect(SignalCurve("the loss", "nats", "log", 0.05, steps, values, draws, 40))
    assert found.shape_ == "rise-fall"
    assert np.flatnonzero(np.isnan(found.fitted_)).tolist() == [0, 5]
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))
    assert document["value"][5] is None
    assert document["fitted"][0] is None
    assert document["breaks"][0]["step"] == found.breaks_[0].step


def test_too_few_defined_checkpoints_are_refused_in_words():
    steps, values = np.arange(1, 9), np.array([np.nan] * 3 + [0.5] * 5)
    with pytest.raises(
        InputError, match="the share is defined at 5 checkpoints after step 0; a fit takes at"
    ):
        SignalCurve("the share", "share", "arcsine", 0.05, steps, values, np.tile(values, (9, 1)), 9)


def test_values_that_the_scale_has_no_place_for_are_refused():
    values = np.array([0.2, 0.4, 1.0, 0.3, 0.2, 0.1])
    with pytest.raises(InputError, match="the share is 1 at step 3, which has no logit"):
        SignalCurve("the share", "share", "logit", 0.05, np.arange(1, 7), values, np.tile(values, (9, 1)), 9)


def test_a_signal_that_nothing_moves_is_refused():
    values = np.full(8, 0.5)
    curve = SignalCurve("s", "share", "arcsine", 0.05, np.arange(1, 9), values, np.tile(values, (99, 1)), 9)
    with pytest.raises(InputError, match="no noise to judge a break by"):
        detect(curve)


def test_a_constant_with_uncertain_draws_is_flat_or_not_resolvable_but_has_no_break():
    steps, values = np.arange(1, 21), np.zeros(20)
    draws = np.random.default_rng(0).binomial(200, 0.01, (200, 20)) / 200
    found = detect(SignalCurve("s", "share", "arcsine", 0.05, steps, values, draws, 200))
    assert found.breaks_ == []
    assert found.shape_ in ("flat", "not resolvable")


def test_flat_is_said_only_where_the_least_change_would_have_been_seen():
    sharp, blurred = (
        detect(losses(np.random.default_rng(4), lambda x: 0 * x, training=noise, common=noise))
        for noise in (0.002, 0.2)
    )
    assert sharp.shape_ == "flat"
    assert blurred.shape_ == "not resolvable"
    assert blurred.stages_ == []


def test_a_change_of_unit_changes_neither_breaks_nor_p_values():
    curve = losses(np.random.default_rng(5), through((2, 0), (3.3, 0.5), (5, -0.5)))
    bits = SignalCurve(
        "the loss", "bits", "log", 0.05, curve.steps, curve.values / np.log(2), curve.draws / np.log(2), 40
    )
    assert detect(bits).breaks_ == detect(curve).breaks_
    assert detect(bits).p_values_ == detect(curve).p_values_


def test_training_noise_is_recovered_beyond_correlated_sampling():
    rng, n = np.random.default_rng(6), 400
    x = np.linspace(2, 5, n)
    sampling = 0.04 * np.exp(-10 * np.abs(x[:, None] - x))
    y = 3 * x + np.linalg.cholesky(sampling) @ rng.normal(size=n) + 0.1 * rng.normal(size=n)
    assert np.sqrt(training_noise(x, y, sampling)) == pytest.approx(0.1, rel=0.15)


def test_training_noise_is_zero_where_sampling_explains_more_than_is_seen():
    x = np.linspace(0, 1, 20)
    assert training_noise(x, 0.01 * np.sin(40 * x), np.eye(20)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "truth", [lambda x: 0 * x, lambda x: -0.4 * x, lambda x: 0.2 * x], ids=["flat", "fall", "rise"]
)
@pytest.mark.parametrize("n", [8, 20])
def test_straight_signals_get_a_break_in_at_most_5_percent(truth, n):
    rng = np.random.default_rng(n)
    broken = sum(bool(detect(losses(rng, truth, n=n, training=0.05)).breaks_) for _ in range(100))
    assert broken <= 10  # more has probability .01 if the rate is .05


@pytest.mark.slow
@pytest.mark.parametrize("training", [0.02, 0.05])
def test_90_percent_intervals_of_bends_cover_85_to_95_percent(training):
    rng, covered = np.random.default_rng(3), []
    for _ in range(100):
        turn = 2 + 3 * rng.uniform(0.2, 0.45)
        curve = losses(rng, through((2, 0), (turn, 0.3), (5, -0.3)), n=20, training=training)
        found = detect(curve, draws=199, level=0.9)
        if len(found.breaks_) == 1:
            covered.append(found.breaks_[0].low <= 10**turn <= found.breaks_[0].high)
    error = 2 * np.sqrt(0.9 * 0.1 / len(covered))
    assert 0.85 - error <= np.mean(covered) <= 0.95 + error


@pytest.mark.parametrize("share", [0.02, 0.98])
def test_a_flat_share_near_its_end_is_resolved_by_a_bump_away_from_it(share):
    rng = np.random.default_rng(4)
    steps = (10 ** np.linspace(2, 5, 14)).round().astype(int)
    noise = 1 + 0.02 * rng.normal(size=(301, 14))
    near = share if share < 0.5 else 1 - share  # from the nearer of 0 and 1
    values = near * noise if share < 0.5 else 1 - near * noise
    found = detect(SignalCurve("the share", "share", "logit", 0.05, steps, values[0], values[1:], 40))
    assert found.shape_ == "flat"
    assert found.resolved_
    assert "would be seen in 100%" in found.verdict_
