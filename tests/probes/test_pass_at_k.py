"""pass@k against its definition: draws without replacement, counted one by one."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from babelscope.core.errors import InputError
from babelscope.probes.pass_at_k import pass_at_k


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 1), (5, 3), (6, 6), (7, 2)])
def test_it_is_the_share_of_draws_that_hold_a_solved_completion(n, k):
    for solved in range(n + 1):
        draws = list(combinations([True] * solved + [False] * (n - solved), k))
        expected = sum(map(any, draws)) / len(draws)
        assert pass_at_k(np.array([solved]), n, k)[0] == pytest.approx(expected)


def test_large_numbers_do_not_overflow():
    found = pass_at_k(np.array([0, 1, 500, 1000]), 1000, 100)
    expected = [0.0, 0.1, 1 - comb(500, 100) / comb(1000, 100), 1.0]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("k", [0, 11, 100])
def test_more_tries_than_completions_are_refused(k):
    with pytest.raises(InputError, match=rf"pass@{k} of 10 completions"):
        pass_at_k(np.array([0, 10]), 10, k)


def test_more_solved_than_there_are_is_refused():
    with pytest.raises(InputError, match="11 of 10"):
        pass_at_k(np.array([3, 11]), 10, 1)
