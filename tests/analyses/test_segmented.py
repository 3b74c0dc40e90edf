"""The fit against brute force, the simulation against its margins, the test against its own level."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from babelscope.analyses.curve_posterior import BrokenLinePosterior
from babelscope.analyses.segmented import SegmentedLogit, shrunk_correlation, training_noise

STEPS = np.array([75, 100, 125, 150, 175, 200, 250, 300, 400])
X = np.log10(STEPS)
RISES_AND_FALLS = np.array([0, 0, 8, 20, 22, 16, 8, 3, 2])  # of 80
RISES_LATE = np.array([0, 0, 0, 0, 5, 10, 14, 25, 24])


def model(x=X, *, problems=80, correlation=None, noise=0.0, max_breaks=3):
    shared = np.eye(len(x)) if correlation is None else correlation
    total = np.full(len(x), problems)
    return SegmentedLogit(x, total, correlation=shared, noise=noise, max_breaks=max_breaks)


def likeliest_by_brute_force(solved, total, breaks):
    """Least deviance over all sets of breaks, each by a general optimiser."""
    pseudo = (2 + breaks) / len(X)
    share, best = (solved + pseudo / 2) / (total + pseudo), (np.inf, None, None)
    for places in combinations(range(1, len(X) - 1), breaks):
        design = np.column_stack([np.ones_like(X), X, *(np.maximum(X - X[place], 0) for place in places)])
        q, _ = np.linalg.qr(design)

        def deviance(b, q=q):
            eta = q @ b
            return -2 * total * (share * eta - np.logaddexp(0, eta)).sum()

        found = minimize(deviance, np.zeros(q.shape[1]), method="BFGS", options={"gtol": 1e-8})
        if found.fun < best[0]:
            best = found.fun, places, q @ found.x
    return best


@pytest.mark.parametrize("solved", [RISES_AND_FALLS, RISES_LATE], ids=["rises and falls", "rises late"])
@pytest.mark.parametrize("breaks", [0, 1, 2, 3])
def test_the_fit_is_the_likeliest_of_all_sets_of_breaks(solved, breaks):
    _, places, eta = likeliest_by_brute_force(solved, 80, breaks)
    fit = model().fit(solved, breaks)
    assert tuple(fit.breaks) == places
    np.testing.assert_allclose(expit(fit.eta), expit(eta), atol=1e-4)


def test_a_curve_of_straight_lines_is_found_exactly():
    x = np.linspace(1, 4, 16)
    eta = np.interp(x, [x[0], x[5], x[11], x[-1]], [-2.5, -1, -2, -2])
    fit = model(x, problems=10**7).fit(10**7 * expit(eta), 2)
    assert fit.breaks.tolist() == [5, 11]
    np.testing.assert_allclose(fit.eta, eta, atol=1e-5)


@pytest.mark.parametrize("solved", [np.zeros(9), np.full(9, 80), np.repeat([0, 80], [4, 5])])
@pytest.mark.parametrize("breaks", [0, 3])
def test_checkpoints_with_none_or_all_solved_stay_finite(solved, breaks):
    assert np.isfinite(model().fit(solved, breaks).eta).all()


def test_breaks_are_limited_to_what_leaves_a_degree_of_freedom():
    assert [model(np.arange(n) * 1.0).max_breaks for n in (6, 7, 8, 9, 40)] == [1, 2, 2, 3, 3]


def test_long_series_are_searched_on_a_thinner_grid():
    long = model(np.linspace(0, 5, 154))
    assert len(long.lines.grid) == 40
    assert {1, 152} <= set(long.lines.grid.tolist())


def test_simulated_counts_have_binomial_margins_and_the_given_correlation():
    correlation = 0.5 + 0.5 * np.eye(9)
    p = np.linspace(0.1, 0.5, 9)
    counts = model(correlation=correlation).simulate(logit(p), 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(counts.mean(1), 80 * p, rtol=0.01)
    np.testing.assert_allclose(counts.var(1), 80 * p * (1 - p), rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(counts), correlation, atol=0.03)


def test_training_noise_widens_simulated_counts_by_its_variance_in_the_logit():
    rng, p = np.random.default_rng(0), 0.3
    counts = model(problems=2000, noise=0.04).simulate(np.full(9, logit(p)), 20_000, rng)
    spread = logit(counts / 2000).var(1)
    np.testing.assert_allclose(spread, 0.04 + 1 / (2000 * p * (1 - p)), rtol=0.05)


def test_correlations_are_shrunk_towards_their_mean_the_less_the_more_problems_there_are():
    rng, found = np.random.default_rng(0), []
    decay = 0.9 ** np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    for problems in (60, 4000):
        outcomes = rng.multivariate_normal(np.zeros(8), decay, size=problems) > 0.5
        sample, shrunk = np.corrcoef(outcomes.T), shrunk_correlation(outcomes)
        apart = ~np.eye(8, dtype=bool)
        intensity = 1 - np.polyfit(sample[apart], shrunk[apart], 1)[0]
        assert shrunk[apart].mean() == pytest.approx(sample[apart].mean(), abs=0.02)
        found.append(intensity)
    assert found[0] > 3 * found[1] > 0


def test_correlations_that_differ_by_chance_alone_become_one():
    rng = np.random.default_rng(0)
    outcomes = rng.normal(size=(80, 1)) + rng.normal(size=(80, 30)) > 0.5
    shrunk = shrunk_correlation(outcomes)
    sample = np.corrcoef(outcomes.T)
    apart = ~np.eye(30, dtype=bool)
    assert shrunk[apart].std() < 0.5 * sample[apart].std()


def test_checkpoints_that_agree_on_every_problem_can_still_be_simulated():
    outcomes = np.repeat([[True], [False]], [40, 40], axis=0) & np.ones((80, 9), bool)
    correlation = shrunk_correlation(outcomes)
    assert np.linalg.eigvalsh(correlation).min() > 0
    model(correlation=correlation).simulate(np.zeros(9), 3, np.random.default_rng(0))


def test_a_checkpoint_that_solves_nothing_is_uncorrelated():
    outcomes = np.random.default_rng(0).random((80, 6)) < 0.3
    outcomes[:, 0] = False
    correlation = shrunk_correlation(outcomes)
    np.testing.assert_array_equal(correlation[0], np.eye(6)[0])


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_training_noise_is_estimated_without_knowing_the_curve(noise):
    rng, x = np.random.default_rng(0), np.linspace(1, 4, 20)
    eta = np.interp(x, [1, 2, 3.2, 4], [-2.2, -1.4, -2, -2])
    total = np.full(20, 1000)
    found = [
        training_noise(x, rng.binomial(1000, expit(eta + noise * rng.normal(size=20))), total, np.eye(20))[0]
        for _ in range(100)
    ]
    assert np.sqrt(np.median(found)) == pytest.approx(noise, abs=0.06)


def test_shared_problems_reduce_the_noise_between_neighbours():
    x, total, solved = np.linspace(1, 4, 20), np.full(20, 1000), np.full(20, 150)
    _, sharing = training_noise(x, solved, total, 0.6 + 0.4 * np.eye(20))
    assert sharing == pytest.approx(0.4, abs=0.01)


def p_value(segmented, solved, breaks, rng, *, noise=0.0, draws=99):
    fit = segmented.fit(solved, breaks)
    lines = BrokenLinePosterior(
        segmented.x,
        segmented.by_problems(fit.eta),
        noise=noise,
        sensitivity=segmented.sensitivity(fit.eta),
        places=12,
        max_breaks=segmented.max_breaks,
    )
    posterior = lines.fit(segmented.empirical(solved))
    null = logit(segmented.probability(posterior.likeliest(breaks)[0]).clip(1e-9, 1 - 1e-9))
    return segmented.test(solved, null, lines, breaks=breaks, noise=np.full(draws, noise), rng=rng)


def test_the_way_back_from_empirical_logits_is_exact():
    segmented, counts = model(), np.array([0, 0, 8, 20, 22, 16, 8, 3, 80])
    np.testing.assert_allclose(segmented.probability(segmented.empirical(counts)), counts / 80, atol=1e-12)
    many = np.column_stack([counts, counts])
    np.testing.assert_allclose(segmented.empirical(many)[:, 1], segmented.empirical(counts))


def test_problems_give_logits_the_variance_of_their_counts():
    segmented, eta = model(problems=400), np.linspace(-1.5, 0.5, 9)
    logits = segmented.empirical(segmented.simulate(eta, 20_000, np.random.default_rng(0)))
    np.testing.assert_allclose(np.diag(segmented.by_problems(eta)), logits.var(1), rtol=0.06)


def test_shared_problems_sharpen_the_test():
    rng, p_values = np.random.default_rng(0), []
    bump = expit(np.interp(np.arange(9), [0, 4, 8], [-1.5, -1, -1.5]))
    for correlation in (np.eye(9), 0.2 * np.eye(9) + 0.8):
        segmented = model(correlation=correlation)
        p_values.append(p_value(segmented, 80 * bump, 0, rng, draws=499))
    assert p_values[1] < p_values[0] / 3


@pytest.mark.parametrize("breaks", [0, 1])
def test_p_values_are_uniform_where_there_is_no_further_break(breaks):
    rng, x = np.random.default_rng(1), np.linspace(1, 4, 14)
    eta = np.interp(x, [1, 2, 4], [-3, -1.5, -1.5]) if breaks else np.linspace(-2, -1, 14)
    segmented = model(x, problems=300, max_breaks=2)
    p_values = [p_value(segmented, rng.binomial(300, expit(eta)), breaks, rng) for _ in range(100)]
    below = [np.mean(np.array(p_values) <= p) for p in (0.05, 0.25, 0.5, 0.75)]
    np.testing.assert_allclose(below, [0.05, 0.25, 0.5, 0.75], atol=0.13)


def test_a_peak_in_the_middle_is_found_though_one_break_explains_little_of_it():
    x = np.linspace(1, 4, 20)
    eta = np.interp(x, [1, 1.6, 2, 2.4, 4], [-2.4, -2.4, -1.2, -2.4, -2.4])
    segmented = model(x, problems=300)
    assert p_value(segmented, 300 * expit(eta), 0, np.random.default_rng(0)) <= 0.05
