"""The closed forms against densities of the same model written out, and the draws against their moments."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from babelscope.analyses.curve_posterior import NOISE, BrokenLinePosterior, own_covariance
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.stages import StageDetector

X = np.sort(np.random.default_rng(3).uniform(1, 4, 12))
S = 0.01 * (0.4 + 0.6 * np.eye(12))
Y = np.interp(X, [1, 2, 3, 4], [-2, -1, -1.8, -1.8]) + 0.1 * np.random.default_rng(4).standard_normal(12)

ROUGH = 0.02
FOLLOWS = np.linspace(0.3, 1, 12)


def lines(places=8, max_breaks=2, **settings):
    return BrokenLinePosterior(
        X,
        S,
        noise=ROUGH,
        sensitivity=FOLLOWS,
        places=places,
        max_breaks=max_breaks,
        weighed_by=own_covariance(S),
        **settings,
    )


def density(places, noise):
    """Log density of what is left of y after its line, the changes of slope integrated numerically."""
    basis = null_space(np.column_stack([np.ones(12), X]).T)
    own = np.diag(1 / np.diag(np.linalg.inv(S)))
    inner, rough = (basis.T @ (own + v * np.diag(FOLLOWS**2)) @ basis for v in (noise**2, ROUGH))
    rest, found = basis.T @ Y, []
    for sets in ([()], [(a,) for a in places], [(a, b) for a in places for b in places if a < b]):
        logs = []
        for one in sets:
            hinges = basis.T @ np.column_stack([np.maximum(X - at, 0) for at in one] or [np.zeros((12, 0))])
            unit = hinges.T @ np.linalg.solve(rough, hinges) / 12  # information of one checkpoint
            prior = np.sqrt(np.linalg.det(unit / (2 * np.pi))) if one else 1.0
            fit, spread = np.zeros(len(one)), np.zeros((len(one), len(one)))
            if one:
                spread = np.linalg.inv(hinges.T @ np.linalg.solve(inner, hinges))
                fit = spread @ hinges.T @ np.linalg.solve(inner, rest)
            # A product of sums over a lattice that is wide and fine enough for a normal density.
            lattice = np.array(list(product(np.linspace(-7, 7, 29), repeat=len(one))))
            root = np.linalg.cholesky(spread) if one else spread
            slopes = fit + lattice @ root.T
            density = multivariate_normal(np.zeros(10), inner)
            cell = 0.5 ** len(one) * (np.linalg.det(root) if one else 1.0)
            logs.append(np.log(prior * cell) + logsumexp(density.logpdf(rest - slopes @ hinges.T)))
        found.append(logsumexp(logs) - np.log(len(logs)))
    return np.array(found)


def test_evidence_is_the_density_of_the_model_integrated_numerically():
    model = lines(places=5)
    found = model.evidence(Y[:, None])[:, :, 0] - np.log(np.gradient(NOISE))[:, None]
    expected = np.array([density(model.places, sigma) for sigma in NOISE])
    np.testing.assert_allclose(found - found[0, 0], expected - expected[0, 0], atol=1e-5)


def test_one_series_and_many_are_weighed_alike():
    model = lines()
    by_number = logsumexp(model.evidence(np.column_stack([Y, Y + 1]))[:, :, 0], axis=0)
    np.testing.assert_allclose(model.fit(Y).weights, np.exp(by_number - logsumexp(by_number)), rtol=1e-6)


def test_a_shift_or_a_slope_of_all_scores_changes_no_weight():
    first, second = (lines().fit(y).weights for y in (Y, Y + 2 - 3 * X))
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_curves_without_a_break_have_the_moments_of_generalised_least_squares():
    model = lines(places=8, max_breaks=0, between=np.where(NOISE == 0, 0.0, -1e9))
    curves = model.fit(Y).curves([0], 40_000, np.random.default_rng(0))
    design, precision = np.column_stack([np.ones(12), X]), np.linalg.inv(S)
    covariance = np.linalg.inv(design.T @ precision @ design)
    np.testing.assert_allclose(curves.mean(1), design @ covariance @ design.T @ precision @ Y, atol=2e-3)
    np.testing.assert_allclose(np.cov(curves), design @ covariance @ design.T, atol=2e-4)


def test_the_likeliest_curve_is_generalised_least_squares_at_the_likeliest_breaks():
    model = lines(places=8, max_breaks=2, between=np.where(NOISE == 0, 0.0, -1e9))
    found, at = model.fit(Y).likeliest(2)
    precision, best = np.linalg.inv(S), (np.inf, None, None)
    for one in combinations(model.places, 2):
        design = np.column_stack([np.ones(12), X, *(np.maximum(X - place, 0) for place in one)])
        fit = design @ np.linalg.solve(design.T @ precision @ design, design.T @ precision @ Y)
        best = min(best, ((Y - fit) @ precision @ (Y - fit), one, fit), key=lambda row: row[0])
    np.testing.assert_allclose(found, best[2], atol=1e-6)
    assert [abs(X - place).argmin() for place in best[1]] == at.tolist()


def test_curves_with_a_break_bend_where_it_is():
    y = np.interp(X, [1, 2.2, 4], [-3, 0, -3])
    model = BrokenLinePosterior(X, 1e-4 * np.eye(12), noise=0.0, sensitivity=FOLLOWS, places=40, max_breaks=1)
    found = model.fit(y)
    low, high = found.breaks(1, level=0.9)[0]
    before, after = X[X < 2.2].max(), X[X > 2.2].min()
    assert before - 0.1 < low < 2.2 < high < after + 0.1
    assert abs(found.curves([1], 200, np.random.default_rng(0)) - y[:, None]).max() < 0.2


def test_breaks_between_checkpoints_are_held():
    x, held = np.linspace(1, 4, 10), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        at = rng.uniform(1.8, 3.2)
        y = np.interp(x, [1, at, 4], [-2, 0, -2]) + 0.1 * rng.standard_normal(10)
        model = BrokenLinePosterior(
            x, 0.01 * np.eye(10), noise=0.0, sensitivity=np.ones(10), places=40, max_breaks=1
        )
        low, high = model.fit(y).breaks(1, level=0.9)[0]
        held.append(low <= at <= high)
    assert 0.8 <= np.mean(held) <= 1


def test_runs_tell_what_the_noise_is():
    known = np.where(NOISE[4] == NOISE, 0.0, -1e9)
    assert lines(between=known).fit(Y).noise(1)[4] == pytest.approx(1)


def test_a_start_that_no_line_fits_does_not_shift_a_plateau_whose_problems_are_shared():
    """Of 160 problems the same 80 are solved from some step on, after a start that bends in the logit."""
    steps = np.unique(np.geomspace(45, 1000, 80).round().astype(int))
    rng = np.random.default_rng(0)
    learnt = np.append(rng.uniform(60, 160, 80), np.full(80, np.inf))[:, None]
    outcomes = (steps > learnt) & (rng.random((160, len(steps))) > 0.03)
    found = StageDetector(draws=199).fit(ScoreCurve.from_outcomes(steps, outcomes))
    assert abs(found.fitted_[-1] - 0.485) < 0.03
