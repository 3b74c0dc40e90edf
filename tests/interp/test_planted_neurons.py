"""Does detection find the neurons that were planted, and none where none were?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import xarray as xr
from scipy.stats import false_discovery_control, norm

from babelscope.interp.anatomy import Anatomy
from babelscope.interp.neuron_totals import ObservedTotals
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.observe import observe
from babelscope.interp.plnd import PlndFfn
from babelscope.interp.selection import Fdr
from babelscope.interp.streams import TextReading, TextStream
from tests.conftest import FAMILY_CONFIGS
from tests.planted_neurons import LANGUAGES, plant, text, unplanted

Measured = Callable[[Anatomy, TextReading], xr.Dataset]


def observed(measure: type[ObservedTotals], anatomy: Anatomy, reading: TextReading) -> xr.Dataset:
    stream = TextStream({language: ["any"] for language in LANGUAGES})  # its reading is made by hand
    one = measure(stream)
    observer = one.observer(anatomy, reading, reading.items)
    observe(anatomy, reading.items, [(one.sites, observer)], tokens=1 << 12)
    return one.combine([observer.result()], reading)


FIRING = pytest.param("transferring_neurons", partial(observed, TransferringNeurons), id="firing")
PLND = pytest.param("plnd_ffn", partial(observed, PlndFfn), id="plnd")
SCORES = [FIRING, PLND]


def found_and_false(method: str, measured: Measured, family: str, seed: int) -> tuple[int, int, int]:
    """Planted neurons that are found, neurons found that were not planted, planted ones."""
    planted = plant(family, seed=seed)
    reading = text(np.random.default_rng([seed, 1]))
    random = measured(unplanted(family, seed=seed + 500), reading)
    members = Fdr(method, level=0.1, reference=random)(measured(planted.anatomy, reading)).members.to_numpy()
    return (
        int((members & planted.members).sum()),
        int((members & ~planted.members).sum()),
        int(planted.members.sum()),
    )


def check(found: int, false: int, planted: int) -> None:
    assert found / planted >= 0.8
    assert found / max(1, found + false) >= 0.9


@pytest.mark.parametrize(("method", "measured"), SCORES)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_planted_neurons_are_found(family, method, measured):
    check(*found_and_false(method, measured, family, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize(("method", "measured"), SCORES)
@pytest.mark.parametrize("family", FAMILY_CONFIGS)
def test_planted_neurons_are_found_in_every_architecture(family, method, measured):
    counts = [found_and_false(method, measured, family, seed=seed) for seed in (1, 2)]
    check(*(sum(count) for count in zip(*counts, strict=True)))


def reporting(method: str, measured: Measured, models: int) -> int:
    """How many models report a neuron, of as many in which nothing was planted."""
    some = 0
    for number in range(models):
        family = list(FAMILY_CONFIGS)[number % len(FAMILY_CONFIGS)]
        reading = text(np.random.default_rng([number, 2]))
        model, random = (measured(unplanted(family, seed=seed + number), reading) for seed in (1000, 2000))
        some += bool(Fdr(method, level=0.1, reference=random)(model).count.any())
    return some


@pytest.mark.parametrize(("method", "measured"), SCORES)
def test_where_nothing_was_planted_nothing_is_found(method, measured):
    assert reporting(method, measured, models=3) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("method", "measured"), SCORES)
def test_of_ten_models_in_which_nothing_was_planted_at_most_one_reports_a_neuron(method, measured):
    assert reporting(method, measured, models=10) <= 1


def test_tokens_taken_as_independent_make_neurons_out_of_topics():
    """Both languages are one, under two names: only documents differ."""
    by_tokens, by_blocks = 0, 0
    for seed in range(3):
        reading = text(np.random.default_rng([seed, 3]), alike=True)
        found = observed(TransferringNeurons, unplanted("llama", seed=seed), reading)
        by_blocks += int(Fdr("transferring_neurons")(found).count.sum())
        fired, tokens = found.sum("block")["total"].to_numpy(), found["tokens"].sum("block").to_numpy()
        rate, both = fired / tokens[:, None, None], fired.sum(0) / tokens.sum()
        error = np.sqrt((both * (1 - both)).clip(1e-12) * (1 / tokens).sum())
        p = norm.sf((rate[1] - rate[0]) / error).ravel()  # two proportions of independent tokens
        by_tokens += int((false_discovery_control(p) <= 0.1).sum())
    assert by_tokens > 100 >= 50 * by_blocks
