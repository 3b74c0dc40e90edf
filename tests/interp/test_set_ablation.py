"""Sets and single neurons ablated: against models whose weights were edited, and planted sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from transformers.pytorch_utils import Conv1D

from babelscope.interp import ablation, set_ablation, single_ablation
from babelscope.interp.ablation import Activity
from babelscope.interp.anatomy import Anatomy
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.set_ablation import SetAblation, SetAblationChoice, matched
from babelscope.interp.single_ablation import SingleAblation, SingleAblationChoice, sample
from babelscope.interp.streams import PromptStream, TextStream
from tests.conftest import make_model
from tests.questions import FEW, PROBES, TEXTS

TEXT = TextStream(TEXTS, tokens=60, window=16)
PROMPTS = PromptStream(PROBES, background=TEXTS, minimum=FEW)
BETWEEN = {"pivot": "python", "target": "php"}


@dataclass(frozen=True)
class Given:
    """Selects what it was given, whatever was found."""

    sets: dict[str, np.ndarray]
    config: dict[str, Any] = field(default_factory=dict)

    def __call__(self, found):
        members = xr.DataArray(
            np.stack(list(self.sets.values())),
            dims=("language", "layer", "neuron"),
            coords={"language": list(self.sets)},
        )
        return SimpleNamespace(members=members)


@pytest.fixture(autouse=True)
def few_random_sets(monkeypatch):
    """Two do for what is asked here, and take a quarter of the time."""
    monkeypatch.setattr(set_ablation, "RANDOM", 2)


def given(anatomy, *, share=0.1):
    rng = np.random.default_rng(3)
    shape = (anatomy.n_layers, anatomy.d_neurons)
    return {language: rng.random(shape) < share for language in ("php", "python")}


def on_text(anatomy, tokenizer, sets, *, cuts=1):
    measure = SetAblation(TEXT, needs=TransferringNeurons(TEXT), rule=Given(sets)).using(xr.Dataset())
    return run(measure, anatomy, tokenizer, cuts)


def on_choice(anatomy, tokenizer, sets, *, cuts=1):
    needs = TransferringNeurons(TEXT)
    measure = SetAblationChoice(PROMPTS, text=TEXT, needs=needs, rule=Given(sets), **BETWEEN)
    return run(measure.using(xr.Dataset()), anatomy, tokenizer, cuts)


def run(measure, anatomy, tokenizer, cuts):
    reading = measure.stream.read(tokenizer)
    shards = np.array_split(np.arange(len(reading.items)), cuts)
    parts = [measure.drive(anatomy, tokenizer, reading, [reading.items[i] for i in some]) for some in shards]
    return measure.combine(parts, reading)


def without(family, members):
    """The same random model whose down-projections do not read these neurons."""
    model = make_model(family)
    for down, of_layer in zip(Anatomy(model).downs, members, strict=True):
        rows = down.weight.data if isinstance(down, Conv1D) else down.weight.data.T
        rows[of_layer] = 0
    return model


def document_losses(model, tokenizer):
    reading = TEXT.read(tokenizer)
    found = np.zeros(reading.document.max() + 1)
    for item, document in zip(reading.items, reading.document, strict=True):
        ids = torch.as_tensor(item.ids)[None]
        with torch.no_grad():
            found[document] += float(model(ids, labels=ids).loss) * (len(item.ids) - 1)
    return found


def choices(model, tokenizer):
    """Log-odds and probability of the right identifier at every prompt of the target."""
    reading, found = PROMPTS.read(tokenizer), []
    for item, probe in zip(reading.items, reading.probes, strict=True):
        if probe.language == "php":
            with torch.no_grad():
                p = model(torch.as_tensor(item.ids)[None]).logits[0, -1].double().softmax(-1).numpy()
            pivot, target = (p[reading.sets[probe.concept, language]] for language in ("python", "php"))
            found.append((np.log(pivot.mean() / target.mean()), target.sum()))
    return np.array(found).T


def test_losses_are_those_of_a_model_without_the_sets_weights(tiny, tokenizer):
    sets = given(tiny.anatomy)
    found = on_text(tiny.anatomy, tokenizer, sets)
    np.testing.assert_allclose(found["before"], document_losses(tiny.model, tokenizer), rtol=1e-4)
    for language, members in sets.items():
        expected = document_losses(without(tiny.family, members), tokenizer)
        np.testing.assert_allclose(found["after"].sel(set=language, mode="zero"), expected, rtol=1e-4)
        np.testing.assert_array_equal(found["size"].sel(set=language), members.sum(-1))
    assert np.isfinite(found["null_after"]).all()
    reading = TEXT.read(tokenizer)
    assert int(found["tokens"].sum()) == sum(len(item.ids) - 1 for item in reading.items)
    assert (
        found["language"].to_numpy().tolist() == ["python", "python", "php", "php"][: found.sizes["document"]]
    )


@pytest.mark.parametrize("family", ["llama", "codegen"])  # the latter's unembedding has a bias
def test_choices_are_those_of_a_model_without_the_sets_weights(family, tokenizer):
    anatomy = Anatomy(make_model(family))
    sets = given(anatomy)
    found = on_choice(anatomy, tokenizer, sets)
    odds, right = choices(anatomy.model, tokenizer)
    np.testing.assert_allclose(found["before"], odds, atol=1e-4)
    np.testing.assert_allclose(found["right_before"], right, rtol=1e-2, atol=1e-9)
    for language, members in sets.items():
        odds, right = choices(without(family, members), tokenizer)
        cell = found.sel(set=language, mode="zero")
        np.testing.assert_allclose(cell["after"], odds, atol=1e-4)
        np.testing.assert_allclose(cell["right_after"], right, rtol=1e-2, atol=1e-9)


def test_each_set_is_patched_to_its_mean_over_the_other_language(tokenizer):
    anatomy = Anatomy(make_model("gpt2"))
    sets, activity = given(anatomy), Activity.of(anatomy, TEXT.read(tokenizer))
    found = on_choice(anatomy, tokenizer, sets)
    for language, other in (("python", "php"), ("php", "python")):
        model = without("gpt2", sets[language])
        for layer, block in enumerate(model.transformer.h):
            own = sets[language][layer]
            rows = anatomy.downs[layer].weight.data[own]
            level = activity.mean[activity.languages.index(other), layer, own]
            block.mlp.c_proj.bias.data += torch.as_tensor(level).float() @ rows
        cell = found.sel(set=language, mode="patch")
        np.testing.assert_allclose(cell["after"], choices(model, tokenizer)[0], atol=1e-4)


def test_shards_and_batches_do_not_matter(tokenizer, monkeypatch):
    anatomy = Anatomy(make_model("gpt2"))
    sets, found = given(anatomy), []
    for cuts, tokens in ((1, 1 << 12), (2, 60)):
        for module in (ablation, set_ablation, single_ablation):
            monkeypatch.setattr(module, "TOKENS", tokens)
        of = {"cuts": cuts}
        found.append(
            [
                on_text(anatomy, tokenizer, sets, **of),
                on_choice(anatomy, tokenizer, sets, **of),
                run(SingleAblation(TEXT, neurons=8), anatomy, tokenizer, cuts),
                run(SingleAblationChoice(PROMPTS, text=TEXT, **BETWEEN, neurons=8), anatomy, tokenizer, cuts),
            ]
        )
    for one, other in zip(*found, strict=True):
        xr.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_an_empty_set_is_unknown_and_one_of_nearly_all_has_no_random_ones(tokenizer):
    anatomy = Anatomy(make_model("gpt2"))
    shape = (anatomy.n_layers, anatomy.d_neurons)
    sets = {"php": np.zeros(shape, bool), "python": np.ones(shape, bool)}
    found = on_text(anatomy, tokenizer, sets)
    assert found["after"].sel(set="php").isnull().all()
    assert found["after"].sel(set="python").notnull().all()
    assert found["null_after"].isnull().all()
    assert on_choice(anatomy, tokenizer, sets)["after"].sel(set="php").isnull().all()


def test_random_sets_are_other_neurons_of_the_same_layers_and_of_like_size():
    rng = np.random.default_rng(0)
    size = rng.lognormal(0, 1, (3, 400))
    members = np.zeros(size.shape, bool)
    members[0, :30], members[2, np.argsort(size[2])[-60:]] = True, True  # a random layer's, and the largest
    drawn = [matched(members, size, rng) for _ in range(8)]
    assert not any((one & members).any() for one in drawn)
    assert all((one.sum(1) == members.sum(1)).all() for one in drawn)
    means = [np.log(size[0])[one[0]].mean() for one in drawn]
    assert np.mean(means) == pytest.approx(np.log(size[0, :30]).mean(), abs=0.1)
    # The largest have none of their size beside them: those next to them stand in.
    assert min(size[2][one[2]].min() for one in drawn) > np.quantile(size[2], 0.6)
    assert not (drawn[0] == drawn[1]).all()


@pytest.mark.parametrize("family", ["gpt2", "llama", "codegen"])
def test_one_neuron_at_a_time_is_a_set_of_one(family, tokenizer):
    anatomy = Anatomy(make_model(family))
    found = run(SingleAblation(TEXT, neurons=36), anatomy, tokenizer, 1)
    choice = run(SingleAblationChoice(PROMPTS, text=TEXT, **BETWEEN, neurons=36), anatomy, tokenizer, 1)
    reading, before = TEXT.read(tokenizer), document_losses(anatomy.model, tokenizer)
    first = np.unique(reading.document, return_index=True)[1]
    odds = choices(anatomy.model, tokenizer)[0]
    for place in (0, 17, 35):
        members = np.zeros((anatomy.n_layers, anatomy.d_neurons), bool)
        members[int(found["layer"][place]), int(found["neuron"][place])] = True
        model = without(family, members)
        rise = document_losses(model, tokenizer) - before
        by_language = np.bincount(reading.language[first], weights=rise)
        np.testing.assert_allclose(found["change"][..., place].sum("block"), by_language, atol=2e-3)
        np.testing.assert_allclose(choice["change"][place], choices(model, tokenizer)[0] - odds, atol=1e-4)
    xr.testing.assert_equal(found["neuron"], choice["neuron"])
    assert np.abs(found["change"]).max() > 0.05
    assert int(found["tokens"].sum()) == sum(len(item.ids) for item in reading.items)


def test_the_sample_is_even_over_layers_and_activation_sizes_and_always_the_same():
    size = np.random.default_rng(0).lognormal(0, 2, (6, 200))
    found = sample(size, 504)
    assert np.bincount(found.layer).tolist() == [84] * 6
    assert np.bincount(found.stratum).tolist() == [21] * 24
    assert len(set(zip(found.layer.tolist(), found.neuron.tolist(), strict=True))) == 504
    for layer in range(6):
        ranks = size[layer].argsort().argsort()[found.neuron[found.layer == layer]]
        assert np.bincount(ranks // 50).tolist() == [21] * 4
    again = sample(size, 504)
    assert all((one == other).all() for one, other in zip(found, again, strict=True))
    assert len(sample(size[:, :10], 504).neuron) == 60
