"""The projection against a generic optimiser and its own conditions; the limits that no mix meets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from babelscope.analyses.nearest_mix import Bounds, Limits, nearest_mix
from babelscope.core.errors import InputError

B = 10**9
EXISTS = {"python": 11 * B, "php": 23 * B, "csharp": 16 * B}


@st.composite
def problems(draw):
    """Wanted shares, some of them 0, and bounds that some mix meets."""
    n = draw(st.integers(2, 6))
    share = st.floats(0, 1)
    wanted = np.array(draw(st.lists(share, min_size=n, max_size=n)))
    wanted[draw(st.integers(0, n - 1))] += 0.1
    some = np.array(draw(st.lists(st.floats(0.01, 1), min_size=n, max_size=n)))
    some /= some.sum()  # a mix within the bounds
    low = some * np.array(draw(st.lists(share, min_size=n, max_size=n)))
    high = some + (1 - some) * np.array(draw(st.lists(share, min_size=n, max_size=n)))
    return wanted, low, high


def kl(p, q):
    return float(np.sum(p * np.log(np.maximum(p, 1e-300) / q)))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(problems())
def test_a_generic_optimiser_finds_no_nearer_mix(problem):
    wanted, low, high = problem
    q = np.maximum(wanted / wanted.sum(), 1e-3)
    q /= q.sum()
    ours = nearest_mix(q, low=low, high=high)
    start = low + (high - low) * (1 - low.sum()) / max((high - low).sum(), 1e-12)
    found = minimize(
        kl,
        np.clip(start, low, high),
        args=(q,),
        jac=lambda p, q: np.log(np.maximum(p, 1e-300) / q) + 1,
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 300},
    )
    if found.success and abs(found.x.sum() - 1) < 1e-9:
        assert kl(ours, q) <= found.fun + 1e-8
        np.testing.assert_allclose(ours, found.x, atol=1e-4)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(problems(), st.randoms(use_true_random=False), st.floats(1e-9, 1e9))
def test_a_nearest_mix_sums_to_one_keeps_to_its_bounds_and_has_no_order_or_unit(problem, random, unit):
    wanted, low, high = problem
    p = nearest_mix(wanted, low=low, high=high)
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert (p >= low).all()
    assert (p <= high).all()
    order = random.sample(range(len(p)), len(p))
    shuffled = nearest_mix(wanted[order], low=low[order], high=high[order])
    np.testing.assert_allclose(shuffled, p[order], atol=1e-9)
    np.testing.assert_allclose(nearest_mix(unit * wanted, low=low, high=high), p, atol=1e-9)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(problems(), st.floats(1, 10))
def test_to_want_more_of_a_language_never_gives_less_of_it_nor_more_of_another(problem, factor):
    wanted, low, high = problem
    more = wanted * np.array([factor, *np.ones(len(wanted) - 1)])
    before, after = (nearest_mix(one, low=low, high=high) for one in (wanted, more))
    assert after[0] >= before[0] - 1e-9
    assert (after[1:] <= before[1:] + 1e-9).all()


def test_within_wide_bounds_the_wanted_mix_is_given():
    q = np.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(nearest_mix(q, low=np.zeros(3), high=np.ones(3)), q, atol=1e-15)


def test_a_bound_that_the_wanted_mix_only_nearly_reaches_leaves_it_alone():
    p = nearest_mix(np.array([0.5, 0.5]), low=np.zeros(2), high=np.array([0.5004, 1]))
    np.testing.assert_allclose(p, [0.5, 0.5], atol=1e-12)


def test_what_a_ceiling_frees_goes_to_the_others_in_proportion():
    p = nearest_mix(np.array([0.2, 0.5, 0.3]), low=np.zeros(3), high=np.array([1, 0.25, 1]))
    np.testing.assert_allclose(p, [0.3, 0.25, 0.45])


def test_a_language_of_which_nothing_is_wanted_gets_its_floor():
    p = nearest_mix(np.array([3.0, 1.0, 0.0]), low=np.array([0, 0, 0.2]), high=np.ones(3))
    np.testing.assert_allclose(p, [0.6, 0.2, 0.2])


def test_languages_of_which_nothing_is_wanted_share_alike_what_the_others_cannot_take():
    p = nearest_mix(np.array([1.0, 0, 0]), low=np.array([0, 0.1, 0]), high=np.array([0.5, 0.2, 1]))
    np.testing.assert_allclose(p, [0.5, 0.2, 0.3])


def test_many_draws_at_once_are_each_what_they_are_alone():
    rng = np.random.default_rng(0)
    wanted = rng.dirichlet(np.ones(4), 50)
    wanted[::7, 1] = 0
    low, high = np.array([0.1, 0, 0.3, 0]), np.array([1, 0.2, 0.6, 0.5])
    alone = [nearest_mix(one, low=low, high=high) for one in wanted]
    np.testing.assert_allclose(nearest_mix(wanted, low=low, high=high), alone, atol=1e-15)


# --- limits


def test_text_limits_a_share_to_what_its_epochs_give_of_the_budget():
    bounds = Bounds.of(Limits(budget=100 * B, epochs=3, ceilings={"php": 0.3}), EXISTS)
    np.testing.assert_allclose(bounds.high, [0.33, 0.3, 0.48])
    assert bounds.by_epochs.tolist() == [True, False, True]


def test_without_a_budget_text_cannot_run_out():
    np.testing.assert_array_equal(Bounds.of(Limits(), EXISTS).high, [1, 1, 1])


def test_a_binding_limit_is_named_with_the_wanted_share_and_others_are_not():
    limits = Limits(budget=100 * B, epochs=4, floors={"php": 0.1, "csharp": 0.4})
    found = Bounds.of(limits, EXISTS).binding(np.array([70.0, 20.0, 10.0]))
    assert [(one.language, one.limit) for one in found] == [("python", "epochs"), ("csharp", "floor")]
    assert found[0].bound == pytest.approx(0.44)
    assert found[0].wanted == pytest.approx(0.7)
    assert found[1].sentence == "The floor of C# binds: 40.0% where 10.0% is wanted."


def test_a_mix_breaks_the_limits_that_it_is_beyond_and_no_others():
    limits = Limits(budget=100 * B, floors={"csharp": 0.1}, ceilings={"php": 0.2})
    bounds = Bounds.of(limits, EXISTS)
    assert bounds.broken_by({"python": 0.44, "php": 0.2, "csharp": 0.36}) == []
    assert bounds.broken_by({"python": 0.65, "php": 0.3, "csharp": 0.05}) == [
        "Python 65.0%, limit of epochs 44.0%",
        "PHP 30.0%, ceiling 20.0%",
        "C# 5.0%, floor 10.0%",
    ]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"floors": {"php": 0.7, "python": 0.5}}, r"floors sum to 1\.2, more than 1 .*lower them by 0\.2"),
        (
            {"floors": {"php": 0.5}, "ceilings": {"php": 0.3}},
            r"php: the floor 0\.5 is above the ceiling 0\.3",
        ),
        (
            {"budget": 100 * B, "epochs": 1, "floors": {"php": 0.5}},
            r"php: the floor 0\.5 of a budget of 100 B is 50 B tokens, but 1 epochs of the 23 B",
        ),
        (
            {"budget": 300 * B, "epochs": 4},
            r"300 B .* 4 epochs of all that exists give 200 B \(python 44 B, php 92 B, csharp 64 B\)",
        ),
        (
            {"ceilings": dict.fromkeys(EXISTS, 0.3)},
            r"ceilings sum to 0\.9, less than 1",
        ),
        ({"floors": {"go": 0.1}}, "a floor is given for 'go', but the mix is of python, php, csharp"),
    ],
)
def test_limits_that_no_mix_meets_are_refused_with_what_conflicts(limits, says):
    with pytest.raises(InputError, match=says):
        Bounds.of(Limits(**limits), EXISTS)


@pytest.mark.parametrize(
    "limits", [{"floors": {"php": 1.2}}, {"budget": 0}, {"epochs": 0}, {"ceilings": {"php": -0.1}}]
)
def test_a_limit_that_is_no_share_is_refused(limits):
    with pytest.raises(InputError, match=next(iter(limits))):
        Limits.parse(limits, origin="limits")
