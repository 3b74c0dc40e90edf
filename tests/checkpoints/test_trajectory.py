"""The rules on the path of the weights, on simulated training: what must not fire, and what must."""

from __future__ import annotations

import numpy as np
import pytest

from babelscope.checkpoints.trajectory import norm_jumps, outliers, true_order
from tests.walks import REGIMES, SPACINGS, walk

SIZES = (256,) * 6 + (96,) * 4 + (32,) * 6  # sampled entries of matrices, of norms and of biases


def path(seed: int, spacing: str, regime: str, **options):
    rng = np.random.default_rng([seed, 7])
    start = [rng.normal(size=size) for size in SIZES]
    return walk(start, SPACINGS[spacing], seed=seed, regime=REGIMES[regime], **options)


def norms(samples):
    return np.sqrt(sum(np.square(sample, dtype=float).sum(1) for sample in samples))


@pytest.mark.parametrize("rank", [None, 200])
@pytest.mark.parametrize("decay", [False, True])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("regime", REGIMES)
def test_a_clean_path_of_30_checkpoints_gives_no_finding(spacing, regime, decay, rank):
    """Noise that moves all tensors together has 200 directions here; see docs/audit.md for fewer."""
    for seed in range(2):
        samples = path(seed, spacing, regime, decay=decay, rank=rank)
        assert 29 <= len(samples[0]) <= 33
        assert true_order(samples) == list(range(len(samples[0])))
        assert outliers(samples) == []
        assert norm_jumps(norms(samples)) == []


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("regime", ["drift", "random walk", "both", "far from the start"])
@pytest.mark.parametrize(("i", "j"), [(20, 21), (17, 22), (15, 27), (18, -1)])
def test_two_exchanged_checkpoints_are_put_back(spacing, regime, i, j):
    samples = path(1, spacing, regime)
    order = list(range(len(samples[0])))
    j %= len(order)
    order[i], order[j] = order[j], order[i]
    assert true_order([sample[order] for sample in samples]) == order


def test_the_first_checkpoint_of_even_steps_is_put_back():
    samples = path(1, "even", "random walk")
    order = [22, *range(1, 22), 0, *range(23, 30)]
    assert true_order([sample[order] for sample in samples]) == order


@pytest.mark.parametrize("spacing", SPACINGS)
def test_two_pairs_of_exchanged_checkpoints_are_put_back(spacing):
    samples = path(2, spacing, "random walk")
    order = list(range(len(samples[0])))
    for i, j in ((12, 20), (15, 25)):
        order[i], order[j] = order[j], order[i]
    assert true_order([sample[order] for sample in samples]) == order


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("regime", ["drift", "random walk", "both", "mostly noise"])
@pytest.mark.parametrize("k", [1, 5, 16, 27, -1])
def test_a_checkpoint_of_another_seed_is_the_only_outlier(spacing, regime, k):
    samples = path(3, spacing, regime)
    other = path(4, spacing, regime)
    for sample, foreign in zip(samples, other, strict=True):
        sample[k] = foreign[k]
    assert true_order(samples) == list(range(len(samples[0])))
    assert outliers(samples) == [k % len(samples[0])]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("regime", ["drift", "random walk", "both", "mostly noise"])
@pytest.mark.parametrize(("factor", "k"), [(1.5, 4), (1.5, 20), (0.6, 20), (1.5, -1)])
def test_a_rescaled_checkpoint_leaps_in_norm(spacing, regime, factor, k):
    samples = path(5, spacing, regime)
    for sample in samples:
        sample[k] *= factor
    assert norm_jumps(norms(samples)) == [k % len(samples[0])]


def test_a_quarter_of_the_tensors_from_elsewhere_is_enough():
    samples, other = path(6, "even", "both"), path(7, "even", "both")
    for sample, foreign in list(zip(samples, other, strict=True))[:3]:  # of the ten that are judged
        sample[11] = foreign[11]
    assert outliers(samples) == [11]


def test_independent_checkpoints_have_no_order_to_be_out_of():
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(12, size)) for size in SIZES]
    assert true_order(samples) == list(range(12))
    assert outliers(samples) == []


@pytest.mark.parametrize("n", [1, 2, 3])
def test_three_checkpoints_are_too_few_to_judge(n):
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(n, 100)) * np.array([1, 50, 1])[:n, None]]
    assert (true_order(samples), outliers(samples), norm_jumps(norms(samples))) == (list(range(n)), [], [])
