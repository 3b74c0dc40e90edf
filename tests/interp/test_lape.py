"""LAPE against published vectors and an independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from babelscope.core.errors import InputError
from babelscope.interp.lape import Thresholds, entropy, firing_rate


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((0.2, 0.2, 0.2), math.log(3)),
        ((0.7, 0.0, 0.0), 0.0),
        ((0.8, 0.1, 0.1), 0.639032),
        ((0.5, 0.5, 0.0), 0.693147),
        ((0.0, 0.0, 0.0), math.inf),
    ],
)
def test_entropy_matches_the_published_vectors(rates, expected):
    assert entropy(np.array(rates)[:, None])[0] == pytest.approx(expected, abs=1e-6)


def by_loops(rate, *, selected, percentile):
    """Selection as RUCAIBox/Language-Specific-Neurons describes it, one neuron at a time."""
    languages, layers, neurons = rate.shape
    everything = sorted(rate.reshape(-1).tolist())
    tau = everything[round(percentile * len(everything)) - 1]
    scored = []
    for layer in range(layers):
        for neuron in range(neurons):
            p = [rate[k, layer, neuron] for k in range(languages)]
            if max(p) > tau:
                q = [x / sum(p) for x in p]
                scored.append((-sum(x * math.log(x) for x in q if x > 0), layer, neuron))
    chosen = sorted(scored)[: round(selected * layers * neurons)]
    return [{(layer, n) for _, layer, n in chosen if rate[k, layer, n] > tau} for k in range(languages)]


@pytest.mark.parametrize("seed", range(5))
def test_selection_agrees_with_a_loop_over_neurons(seed):
    rate = np.random.default_rng(seed).beta(0.5, 2, size=(3, 4, 250))
    members = Thresholds.of(rate, selected=0.03).members(rate)
    ours = [{(int(layer), int(n)) for layer, n in np.argwhere(of)} for of in members]
    assert ours == by_loops(rate, selected=0.03, percentile=0.95)
    assert sum(map(len, ours)) > 0


def test_a_neuron_may_belong_to_two_languages():
    rate = np.zeros((3, 100))
    rate[:2, 7] = 0.9
    assert Thresholds.of(rate).members(rate)[:, 7].tolist() == [True, True, False]


def test_frozen_thresholds_let_the_number_of_neurons_change():
    rng = np.random.default_rng(0)
    rate = rng.beta(2, 2, size=(2, 1000))
    frozen = Thresholds.of(rate)
    specialised = rate.copy()
    specialised[1, :200] = 0.0  # two hundred neurons stop serving the second language
    assert frozen.members(specialised)[0].sum() > 1.5 * frozen.members(rate)[0].sum()
    assert Thresholds.of(specialised).members(specialised).any(0).sum() <= 10  # the fixed budget cannot


def test_a_language_without_tokens_is_refused():
    with pytest.raises(InputError, match=r"\[5, 0\]"):
        firing_rate(np.ones((2, 3), dtype=np.int64), np.array([5, 0]))
