"""Log-linear lines against the published ones."""

import numpy as np
import pytest

from babelscope.analyses.proportion import LossProportion, WorkingLanguageProportion
from babelscope.analyses.trend import LogLinear, disagreement
from babelscope.core.errors import InputError

Y1, Y2 = (1.6166, -0.3758), (1.4973, -0.3328)  # PHP: by loss, by working language
STEPS = np.array([100, 200, 500, 1000, 2000, 5000, 10000])


def shares(line, *, noise=0.0, shared=0.0, seed=0, steps=STEPS, draws=2000):
    """Shares on a line; `noise` differs between checkpoints, `shared` shifts all of a draw's alike."""
    rng = np.random.default_rng(seed)
    exact = line[0] + line[1] * np.log10(steps)
    errors = shared * rng.standard_normal((draws, 1)) + np.zeros(len(steps))
    observed = exact + noise * rng.standard_normal(len(steps))
    return WorkingLanguageProportion().fit(steps, observed, draws=observed + errors)


@pytest.mark.parametrize(
    ("line", "values", "zero"),
    [(Y1, [0.8650, 0.4892, 0.1134], 20_033), (Y2, [0.8317, 0.4989, 0.1661], 31_557)],
)
def test_the_published_lines_their_values_and_their_zero_crossings(line, values, zero):
    found = LogLinear().fit(shares(line))
    assert (found.intercept_, found.slope_) == pytest.approx(line)
    np.testing.assert_allclose(found.predict(np.array([100, 1000, 10000])), values, atol=5e-5)
    assert round(found.zero_step_) == zero


def test_the_disagreement_is_the_table_of_the_authors():
    table = disagreement(
        LogLinear().fit(shares(Y1)), LogLinear().fit(shares(Y2)), np.array([100, 200, 500, 1000, 10000])
    )
    np.testing.assert_allclose(table["delta"], [0.0333, 0.0204, 0.0032, -0.0097, -0.0527], atol=1e-4)
    assert list(table) == ["step", "by_loss", "by_language", "delta", "low", "high"]


def test_intervals_hold_the_line_that_made_the_data():
    hits = np.zeros(3)
    for seed in range(200):
        found = LogLinear(seed=seed).fit(shares(Y1, noise=0.03, shared=0.02, seed=seed, draws=400))
        low, high = found.zero_interval_
        hits += [
            found.intercept_interval_[0] <= Y1[0] <= found.intercept_interval_[1],
            found.slope_interval_[0] <= Y1[1] <= found.slope_interval_[1],
            low <= 20_033 <= high,
        ]
    assert (hits / 200 > 0.85).all(), hits / 200


def test_the_line_by_loss_is_fitted_between_alpha_and_beta():
    steps = np.array([1, 10, 100, 1000, 10000, 100000])
    losses = np.array([9.0, 6.0, 3.0, 2.5, 2.0, 1.5])[:, None] + np.zeros(4)
    estimate = LossProportion(warmup_steps=0, resamples=50).fit(steps, losses * 10, np.full(4, 10))
    found = LogLinear().fit(estimate)
    assert found.slope_ == pytest.approx(-1 / 3)  # the steep fall before alpha is left out
    assert found.zero_step_ == pytest.approx(100000)


def test_a_line_that_does_not_fall_never_reaches_zero():
    found = LogLinear().fit(shares((0.2, 0.1)))
    assert found.zero_step_ == np.inf
    assert (found.zero_interval_ == np.inf).all()


def test_undefined_shares_are_left_out_of_the_line():
    estimate = shares(Y1)
    estimate.proportion_[2] = np.nan
    estimate.draws_[:, 2] = np.nan
    assert LogLinear().fit(estimate).slope_ == pytest.approx(Y1[1])


def test_two_checkpoints_make_no_line():
    with pytest.raises(InputError, match="2 checkpoints with a share between steps 100 and 250"):
        LogLinear(between=(100, 250)).fit(shares(Y1))
