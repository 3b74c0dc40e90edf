"""A model in which a few neurons were made to carry one language, through measure and conclusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from babelscope.analyses.set_effects import Finding, SetEffects
from babelscope.interp.ablation import Mode
from babelscope.interp.anatomy import Anatomy
from babelscope.interp.measure import Item
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.set_ablation import SetAblation, _OfSets
from babelscope.interp.streams import TextReading, TextStream
from tests.conftest import VOCABULARY, make_model
from tests.interp.test_set_ablation import Given

LANGUAGES, DOCUMENTS, LENGTH = ("python", "php"), 10, 24
PLANTED = (2, np.arange(6))  # layer and neurons


@pytest.fixture(scope="module")
def reading():
    """Documents of random tokens, of the vocabulary's first half in one language, its second in the other."""
    rng, half = np.random.default_rng(0), VOCABULARY // 2
    language = np.repeat([0, 1], DOCUMENTS)
    items = [
        Item(rng.integers(half * of, half * (of + 1), LENGTH), index) for index, of in enumerate(language)
    ]
    number = np.arange(len(items))
    return TextReading(items, LANGUAGES, language, number, np.full(len(items), LENGTH))


@pytest.fixture(scope="module")
def anatomy():
    """The planted neurons are on everywhere, and write what the second language's tokens have in common."""
    model = make_model("gpt2", seed=1)
    layer, neurons = PLANTED
    half = VOCABULARY // 2
    rows = model.lm_head.weight.detach()
    apart = rows[half:].mean(0) - rows[:half].mean(0)
    mlp = model.transformer.h[layer].mlp
    with torch.no_grad():
        mlp.c_fc.weight[:, neurons] *= 0.2
        mlp.c_fc.bias[neurons] = 3.0
        mlp.c_proj.weight[neurons] = 10 * apart / apart.norm() / len(neurons)
    return Anatomy(model)


@pytest.fixture(autouse=True)
def zeroed_alone(monkeypatch):
    monkeypatch.setattr(_OfSets, "modes", (Mode.ZERO,))


def finding(anatomy, reading, sets):
    text = TextStream({language: ["x"] for language in LANGUAGES})  # what is read is made by hand
    measure = SetAblation(text, needs=TransferringNeurons(text), rule=Given(sets)).using(xr.Dataset())
    result = measure.combine([measure.drive(anatomy, None, reading, reading.items)], reading)
    table = SetEffects(
        {"set_ablation": result.expand_dims(step=[10])}, pivot="python", target="php"
    ).specificity_
    return dict(zip(table["set"], table["finding"], strict=True))


def random_set(anatomy, rng, size):
    members = np.zeros((anatomy.n_layers, anatomy.d_neurons), bool)
    members.flat[rng.choice(members.size, size, replace=False)] = True
    members[PLANTED] = False
    return members


def test_the_planted_set_is_supported_for_its_language_alone(anatomy, reading):
    planted = np.zeros((anatomy.n_layers, anatomy.d_neurons), bool)
    planted[PLANTED] = True
    found = finding(anatomy, reading, {"python": planted, "php": planted})
    assert found == {"python": Finding.UNSUPPORTED, "php": Finding.SUPPORTED}


def test_of_forty_random_sets_two_at_most_are_supported(anatomy, reading):
    rng = np.random.default_rng(0)
    found = [
        of
        for _ in range(20)
        for of in finding(
            anatomy, reading, {language: random_set(anatomy, rng, 12) for language in LANGUAGES}
        ).values()
    ]
    assert len(found) == 40
    assert sum(of == Finding.SUPPORTED for of in found) <= 2
