"""Power grows with what is spent on it, and what cannot help is said not to."""

import dataclasses

import numpy as np
import pytest
from scipy.special import logit

from babelscope.analyses.power import Design, Needed, needed

X = np.linspace(2, 5, 12)
BUMP = logit(np.interp(X, [2, 3.5, 5], [0.1, 0.16, 0.1]))
DESIGN = Design(X, np.full(12, 160), np.eye(12), noise=0.0, runs=1, max_breaks=2)


def power(design, eta=BUMP):
    return design.power(X, eta, level=0.95, seed=0)


def needs(design):
    return needed(design, X, BUMP, level=0.95, seed=0)


def test_power_grows_with_problems():
    powers = [power(DESIGN.with_problems(factor)) for factor in (1, 3, 9)]
    assert powers[0] < powers[1] < powers[2]
    assert powers[2] > 0.9


def test_a_straight_line_is_called_broken_as_rarely_as_the_level_says():
    assert power(DESIGN, np.linspace(-2, -1, 12)) <= 0.05 + 0.05  # both ends are simulated 199 times


def test_what_is_needed_suffices():
    found = needs(DESIGN)
    assert found.problems is not None
    assert power(DESIGN.with_problems(found.problems / 160)) >= 0.75
    assert power(DESIGN) < 0.8


def test_training_noise_does_not_shrink_with_problems_but_with_seeds():
    noisy = dataclasses.replace(DESIGN.with_problems(20), noise=0.35**2)
    found = needs(noisy)
    assert found.problems is None
    assert found.seeds is not None
    assert found.seeds > 1


def test_seeds_do_not_help_where_only_problems_are_few():
    assert needs(DESIGN).seeds is None


def test_more_checkpoints_span_the_same_steps():
    more = DESIGN.with_checkpoints(2)
    assert (more.x[0], more.x[-1], len(more.x)) == (X[0], X[-1], 24)
    assert power(more) > power(DESIGN)


@pytest.mark.parametrize(
    ("problems", "seeds", "sentence"),
    [
        (
            640,
            None,
            "about 640 problems would resolve it in 80 % of such runs,"
            " more checkpoints (up to 56) or more training seeds (up to 16) alone would not",
        ),
        (
            None,
            None,
            "more problems (up to 9,000) or more checkpoints (up to 56) or more training seeds (up to 16)"
            " alone would not resolve it",
        ),
        (
            640,
            3,
            "about 640 problems or 3 training seeds would resolve it in 80 % of such runs,"
            " more checkpoints (up to 56) alone would not",
        ),
    ],
)
def test_what_helps_and_what_does_not_is_said(problems, seeds, sentence):
    limits = {"problems": 9000, "checkpoints": 56, "seeds": 16}
    assert Needed(problems, None, seeds, limits).in_words() == sentence
