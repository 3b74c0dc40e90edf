"""The predicted gain against its closed form on a run whose scores and shares are known at every step."""

from types import SimpleNamespace

import numpy as np
import pytest

from babelscope.analyses.mix_gain import first_passage, predicted_gain
from tests.analyses.test_mix import STEPS, B, loss_of, peak_at, run

WIDE = {"python": (0.6, 0.8), "php": (0.2, 0.4)}


def gain(*, present, recommended=0.6875, intervals=WIDE, minimum=0.01, runs=None, natural=False, broken=()):
    """Of one run that peaks at step 1000, where P = 0.6875; its score falls by a tenth per tenfold step."""
    return predicted_gain(
        runs or [run(loss=1.6875)],
        pivot="python",
        recommended={"python": recommended, "php": 1 - recommended},
        intervals=intervals,
        present={"python": present, "php": 1 - present},
        natural=natural,
        broken=broken,
        minimum=minimum,
    )


def test_a_curve_first_falls_to_a_level_between_two_points():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    curves = np.array(
        [
            [1.0, 0.6, 0.2, 0.0],
            [1.0, 0.4, 0.9, 0.0],  # rises again
            [1.0, 0.5, 0.8, 0.0],  # rises before
            [0.3, 0.2, 0.1, 0.0],
            [1.0, 0.9, 0.9, 0.8],
            [1.0, 0.8, 0.7, 0.9],
        ]
    )
    np.testing.assert_allclose(first_passage(x, curves, 0.4), [1.5, 1.0, 2.5, 0.0, 3.0, 3.0])


def test_where_a_share_is_not_defined_it_is_never_passed():
    assert np.isnan(first_passage(np.array([0.0, 1.0]), np.array([[1.0, np.nan]]), 0.5)).all()


def test_the_gain_is_the_difference_of_the_scores_where_the_run_had_each_share():
    # P falls from 0.6875 at step 1000 to 0.1 at step 3000, in a line over log-steps.
    found = gain(present=0.25)
    part = (0.6875 - 0.25) / (0.6875 - 0.1)
    at = 3 + part * np.log10(3)
    assert found.gain == pytest.approx(0.1 * (at - 3))
    assert found.targets["php"].present.step == pytest.approx(10**at, abs=1)
    assert found.targets["php"].recommended.step == 1000
    assert found.targets["php"].recommended.score == pytest.approx(0.5)


def test_a_gain_that_is_surely_worth_having_says_to_change():
    found = gain(present=0.25)
    assert found.decision == "change"
    assert found.verdict.startswith("Change your mix (Python 25.0%, PHP 75.0%) to Python 68.8%, PHP 31.2%")
    assert "not tested" in found.verdict


def test_a_gain_below_the_stated_minimum_says_to_keep():
    found = gain(present=0.25, minimum=0.05)
    assert found.decision == "keep"
    assert found.verdict.startswith("Keep your mix (Python 25.0%, PHP 75.0%): no meaningful gain")
    assert "less than the 0.05" in found.verdict


def test_present_weights_inside_the_recommended_intervals_say_to_keep():
    wide = {"python": (0.2, 0.8), "php": (0.2, 0.8)}
    found = gain(present=0.25, intervals=wide)
    assert found.decision == "keep"
    assert "inside the recommended intervals" in found.verdict


def test_an_interval_that_reaches_below_the_minimum_says_to_keep_and_what_would_narrow_it():
    unsure = run(loss=1.6875, mean=peak_at(1000, draws=[1000, 3000] * 20))
    found = gain(present=0.25, runs=[unsure])
    assert found.interval[0] < 0.01 < found.interval[1]
    assert found.decision == "keep"
    assert "more problems or checkpoints would narrow it" in found.verdict


def test_the_recommended_mix_gains_nothing_over_itself():
    found = gain(present=0.6875)
    assert found.gain == 0
    assert found.decision == "keep"
    assert "it is the recommended one" in found.verdict


def test_a_share_that_the_run_was_not_scored_at_has_no_prediction():
    late = peak_at(1000)
    late.curve_ = SimpleNamespace(steps=np.array([1000, 3000]))  # pyright: ignore[reportAttributeAccessIssue]
    found = gain(present=0.9, runs=[run(loss=1.6875, mean=late)])
    assert found.decision == "not resolvable"
    assert found.gain is None
    assert "present mix has P = 0.900 of Python against PHP" in found.verdict
    assert "from 0.688 to 0.100" in found.verdict


def test_a_share_below_all_that_the_run_was_scored_at_has_no_prediction():
    early = peak_at(1000)
    early.curve_ = SimpleNamespace(steps=STEPS[:5])  # pyright: ignore[reportAttributeAccessIssue]
    found = gain(present=0.3, runs=[run(loss=1.6875, mean=early)])
    assert found.decision == "not resolvable"
    assert "to 0.688; nothing is predicted beyond" in found.verdict


def test_one_weight_outside_its_interval_is_a_mix_outside_of_them():
    intervals = {"python": (0.2, 0.8), "php": (0.2, 0.4)}
    assert gain(present=0.25, intervals=intervals).decision == "change"


def test_a_present_mix_that_breaks_the_limits_is_to_be_changed_whatever_is_gained():
    found = gain(present=0.3, minimum=0.5, broken=["PHP 70.0%, ceiling 60.0%"])
    assert found.decision == "change"
    assert (
        "since yours does not keep to the limits (PHP 70.0%, ceiling 60.0%): the predicted" in found.verdict
    )
    late = peak_at(1000)
    late.curve_ = SimpleNamespace(steps=np.array([1000, 3000]))  # pyright: ignore[reportAttributeAccessIssue]
    unknown = gain(present=0.9, runs=[run(loss=1.6875, mean=late)], broken=["Python 90.0%, ceiling 60.0%"])
    assert (unknown.decision, unknown.gain) == ("change", None)
    assert "nothing is predicted beyond" in unknown.verdict


def test_a_present_mix_with_neither_language_has_no_prediction():
    found = predicted_gain(
        [run("php"), run("csharp")],
        pivot="python",
        recommended={"python": 0.5, "php": 0.25, "csharp": 0.25},
        intervals={},
        present={"python": 0.0, "php": 0.0, "csharp": 1.0},
    )
    assert found.decision == "not resolvable"
    assert "neither Python nor PHP" in found.verdict


def test_the_gain_of_several_targets_is_the_mean_of_theirs():
    runs = [run("php", loss=1.6875), run("csharp", loss=1.5, available=16 * B)]
    weights = {"python": 0.4, "php": 0.3, "csharp": 0.3}
    found = predicted_gain(
        runs,
        pivot="python",
        recommended=weights,
        intervals=dict.fromkeys(weights, (0.39, 0.41)),
        present={"python": 0.2, "php": 0.4, "csharp": 0.4},
    )
    assert found.gain == pytest.approx(np.mean([one.gain for one in found.targets.values()]))
    assert found.targets["php"].gain != found.targets["csharp"].gain


def test_the_interval_carries_the_documents_behind_p():
    rng = np.random.default_rng(0)
    base = loss_of(1.6875)
    hard = 1 + 0.1 * rng.standard_normal((7, 30))
    noisy = type(base)(warmup_steps=0, resamples=200).fit(
        STEPS, 10 * base.losses_[:, None] * hard, np.full(30, 10)
    )
    low, high = gain(present=0.25, runs=[run(loss=noisy)]).interval
    assert low < high
