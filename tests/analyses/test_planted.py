"""The instrument against models whose working language was put there by hand, and models without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.special import expit
from torch import nn

from babelscope.analyses.pivot_share import PivotShare
from babelscope.analyses.switch_layer import SwitchLayer
from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy
from babelscope.interp.batching import batches
from babelscope.interp.lens import check_readout
from babelscope.interp.observe import observe
from babelscope.interp.streams import PromptReading, PromptStream
from babelscope.interp.working_language import WorkingLanguage
from tests.conftest import FAMILY_CONFIGS
from tests.planted import PIVOT, TARGET, Plan, Planted, plant, prompts, unplanted
from tests.questions import FEW, PROBES, TEXTS

FAMILIES = list(FAMILY_CONFIGS)
IDS = torch.tensor([[5, 17, 200, 3, 42]])
NAMES = {"pivot": PIVOT, "target": TARGET}
SHARES = ("count", "cells", "soft")


class Measured(dict):
    """One step and a random model, as `sweep` gives them."""

    def __init__(self, working_language: xr.Dataset, null: xr.Dataset):
        super().__init__(working_language=working_language.expand_dims(step=[1]))
        self._null = null

    def null(self, _measure: str) -> xr.Dataset:
        return self._null


def measured(anatomy: Anatomy, reading: PromptReading) -> xr.Dataset:
    """What the executor does, without its store; the reading was made by hand, so no stream is read."""
    measure = WorkingLanguage(PromptStream(PROBES, background=TEXTS, minimum=FEW))
    observer = measure.observer(anatomy, reading, reading.items)
    observe(anatomy, reading.items, [(measure.sites, observer)], tokens=1 << 14)
    return measure.combine([observer.result()], reading)


def shares(results: Measured) -> pd.DataFrame:
    """Row by statistic, of all prompts."""
    return PivotShare(results, **NAMES).table_.query("prompts == 'all'").set_index("statistic")


def plans(number: int, *, seed: int) -> Iterator[tuple[str, Plan, int]]:
    """Family, plan and seed of as many models, over all that is asked of the instrument."""
    rng = np.random.default_rng(seed)
    for index in range(number):
        layers = int(rng.integers(5, 9))
        plan = Plan(
            switch=int(rng.integers(1, layers)),
            share=rng.uniform(0.2, 1),
            strength=rng.uniform(1, 5),
            noise=rng.uniform(0.3, 1.5),
            other=rng.uniform(0, 0.6),
            layers=layers,
            concepts=int(rng.integers(5, 13)),
        )
        yield FAMILIES[index % len(FAMILIES)], plan, 1000 * seed + index


@pytest.mark.slow
def test_share_and_switch_layer_of_planted_models_lie_inside_their_intervals():
    inside: Counter[str] = Counter()
    resolved = exact = 0
    for family, plan, seed in plans(100, seed=0):
        planted = plant(family, plan, seed=seed)
        random = measured(unplanted(family, plan, seed=seed + 500), planted.reading)
        results = Measured(measured(planted.anatomy, planted.reading), random)
        table = shares(results)
        for statistic in SHARES:
            row = table.loc[statistic]
            inside[statistic] += row["low"] <= getattr(planted.truth, statistic) <= row["high"]
        row = SwitchLayer(results, **NAMES).table_.iloc[0]
        inside["switch"] += row["low"] <= planted.truth.switch <= row["high"]
        resolved += row["resolved"]
        exact += row["layer"] == planted.truth.switch
    assert min(inside[name] for name in (*SHARES, "switch")) >= 90, inside
    assert resolved >= 75  # an interval of all layers would hold any
    assert exact >= 0.9 * resolved


@pytest.mark.slow
def test_random_models_have_no_working_language():
    """Pairs of random models, each in turn the other's null."""
    claimed = switching = 0
    for family, plan, seed in plans(50, seed=1):
        reading = prompts(plan, np.random.default_rng(seed))
        pair = [measured(unplanted(family, plan, seed=seed + extra), reading) for extra in (100, 500)]
        for results in (Measured(*pair), Measured(*pair[::-1])):
            claimed += PivotShare(results, **NAMES).table_["outside_null"].any()
            switching += SwitchLayer(results, **NAMES).table_["resolved"].any()
    assert claimed <= 5, claimed
    assert switching <= 5, switching


def misread(planted: Planted) -> float:
    """Largest difference between the soft share of a cell as it is read and as it was planted."""
    read = measured(planted.anatomy, planted.reading)["share"].sel(language=PIVOT)
    return float(np.abs(read - expit(planted.cells.gap)).max())


@pytest.fixture(params=FAMILIES)
def planted(request: pytest.FixtureRequest) -> Planted:
    return plant(request.param, Plan(switch=3, share=0.6, strength=2, noise=1, layers=5, concepts=5), seed=0)


def test_every_cell_reads_as_planted(planted):
    check_readout(planted.anatomy, IDS)
    assert misread(planted) < 2e-3
    leader = np.where(planted.cells.leader == 0, -1, (planted.cells.gap < 0).astype(int))  # −1: neither's
    assert (measured(planted.anatomy, planted.reading)["top"] == leader).mean() > 0.97


def test_a_planted_model_writes_what_its_last_layer_decodes_to(planted):
    """Transformers' own logits, without a lens."""
    reading = planted.reading
    (batch,) = batches(reading.items, tokens=1 << 14, device=planted.anatomy.device)
    with torch.no_grad():
        written = planted.anatomy.model(batch.input_ids, use_cache=False).logits
    for item, logits, last in zip(batch.items, written, batch.last, strict=True):
        pivot, target = (
            logits[last, reading.sets[reading.probes[item.index].concept, language]].exp().mean().log()
            for language in (PIVOT, TARGET)
        )
        assert float(pivot - target) == pytest.approx(planted.cells.gap[-1, item.index], abs=0.02)


def test_a_lens_without_the_heads_bias_fails(monkeypatch):
    planted = plant("codegen", Plan(switch=3, share=0.6, strength=2, noise=1, concepts=5), seed=0)
    monkeypatch.setattr(Anatomy, "unembed_bias", None)
    must_fail(planted)


def test_a_lens_with_another_norm_fails(planted, monkeypatch):
    own, width = planted.anatomy.final_norm, planted.anatomy.unembed.shape[1]
    other = nn.RMSNorm(width) if isinstance(own, nn.LayerNorm) else nn.LayerNorm(width, bias=False)
    other.weight = own.weight
    monkeypatch.setattr(planted.anatomy, "final_norm", other)
    must_fail(planted)


def test_a_lens_that_takes_tied_embeddings_for_untied_or_untied_for_tied_fails(planted, monkeypatch):
    """A head left as it was initialised, where the embeddings are the head; else the embeddings."""
    model = planted.anatomy.model
    embeddings = model.get_input_embeddings().weight
    tied = embeddings is model.get_output_embeddings().weight
    assert tied == (model.config.model_type in ("gpt2", "gpt_bigcode", "starcoder2"))
    fresh = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0))
    wrong = fresh if tied else embeddings
    monkeypatch.setattr(Anatomy, "unembed", wrong)
    must_fail(planted)


def must_fail(planted: Planted) -> None:
    assert misread(planted) > 0.05
    with pytest.raises(InputError, match="differs from the model's logits"):
        check_readout(planted.anatomy, IDS)
