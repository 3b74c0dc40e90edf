"""Training noise is what runs differ by at a step, beyond their problems and their lasting difference."""

import numpy as np
import pytest
from scipy.special import expit

from babelscope.analyses.curve_posterior import NOISE
from babelscope.analyses.run_noise import between_runs
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector

STEPS = np.unique(np.logspace(1, 4, 24).round().astype(int))
ETA = np.interp(np.log10(STEPS), [1, 2, 3, 4], [-1.5, -0.8, -1.4, -1.4])


def curve(rng, *, noise, offset=0.0, runs=4, problems=800, known=False):
    """Several runs of one recipe; with `known`, problems with a difficulty that all runs share."""
    found = []
    threshold = rng.random((problems, 1)) if known else None
    for _ in range(runs):
        eta = ETA + offset * rng.standard_normal() + noise * rng.standard_normal(len(ETA))
        if threshold is None:
            found.append(ScoreCurve.from_counts(STEPS, rng.binomial(problems, expit(eta)), problems))
        else:
            luck = rng.random((problems, len(STEPS)))
            reach = np.where(rng.random(luck.shape) < 0.7, threshold, luck)
            found.append(ScoreCurve.from_outcomes(STEPS, reach < expit(eta)))
    return ScoreCurve.of_runs(found)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("known", [False, True])
def test_the_variance_between_runs_is_found_with_and_without_known_problems(noise, known):
    rng = np.random.default_rng(0)
    found = [
        (one := between_runs(curve(rng, noise=noise, known=known))).square - one.by_problems
        for _ in range(25)
    ]
    assert np.mean(found) == pytest.approx(noise**2, abs=0.008)


def test_a_lasting_difference_between_runs_is_no_noise():
    rng = np.random.default_rng(1)
    found = [between_runs(curve(rng, noise=0.1, offset=0.5)) for _ in range(25)]
    assert np.mean([one.variance for one in found]) == pytest.approx(0.01, abs=0.004)
    assert np.mean([one.offset for one in found]) == pytest.approx(0.25, rel=0.3)


def test_the_likelihood_is_highest_near_the_noise():
    found = between_runs(curve(np.random.default_rng(0), noise=0.3))
    best = NOISE[found.log_likelihood(NOISE).argmax()]
    assert abs(best - 0.3) <= np.diff(NOISE).max() / 2


def test_more_runs_narrow_the_curve_and_the_noise_is_that_of_one_run():
    rng = np.random.default_rng(2)
    one = StageDetector(draws=199).fit(curve(rng, noise=0.3, runs=4).runs[0])
    many = StageDetector(draws=199).fit(curve(rng, noise=0.3, runs=4))
    width = [np.diff(found.band_, axis=1).mean() for found in (one, many)]
    assert width[1] < 0.8 * width[0]
    assert many.training_noise_ == pytest.approx(0.3, abs=0.08)
    document = many.to_document()
    assert (document["runs"], document["training_noise_from"]) == (4, "runs")
