"""Scores against exact ablation: correlations of known size, and the words for them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from babelscope.analyses import score_validity
from babelscope.analyses.score_validity import ScoreValidity, spearman
from babelscope.core.errors import InputError

STEPS, LANGUAGES, LAYERS, NEURONS, BLOCKS = np.array([0, 10]), ["python", "php"], 4, 60, 3
SAMPLED = 160


def invented(*, noise=0.0, size_only=False, seed=0):
    """Single ablation, and scores that know its changes up to noise."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1, (len(STEPS), len(LANGUAGES), LAYERS, NEURONS))
    unit = np.sort(rng.choice(LAYERS * NEURONS, SAMPLED, replace=False))
    layer, neuron = unit // NEURONS, unit % NEURONS
    tokens = np.array([[100, 100, 50], [80, 80, 90]])
    by_block = np.array([0.2, 0.5, 0.3])
    change = true[:, :, layer, neuron][:, :, None] * by_block[:, None] * tokens.sum(1)[:, None, None]
    single = xr.Dataset(
        {
            "change": (("step", "language", "block", "sampled"), change),
            "tokens": (("step", "language", "block"), np.stack([tokens, tokens])),
            "layer": (("step", "sampled"), np.stack([layer, layer])),
            "neuron": (("step", "sampled"), np.stack([neuron, neuron])),
            "stratum": (("step", "sampled"), np.stack([layer, layer])),
        },
        coords={"step": STEPS, "language": LANGUAGES},
    )
    score = true + rng.normal(0, noise, true.shape)
    score = score**2 if size_only else score
    total = score[:, :, None] * by_block[:, None, None] * tokens.sum(1)[:, None, None, None]
    totals = xr.Dataset(
        {
            "total": (("step", "language", "block", "layer", "neuron"), total),
            "tokens": (("step", "language", "block"), np.stack([tokens, tokens])),
        },
        coords={"step": STEPS, "language": LANGUAGES},
    )
    return single, totals


def judged(method, single, totals):
    return ScoreValidity({"single_ablation": single, method: totals}, target="php")


def test_rank_correlation_is_scipys_ties_included():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, (3, 50)).astype(float), rng.normal(size=(3, 50))
    first[2] = 1.0
    found = spearman(first, second)
    for row in (0, 1):
        assert found[row] == pytest.approx(spearmanr(first[row], second[row]).statistic)
    assert np.isnan(found[2])


def test_a_score_that_is_the_change_of_the_loss_correlates_perfectly():
    found = judged("gradient_attribution", *invented()).table_
    np.testing.assert_allclose(found["rho"], 1)
    assert (found["finding"] == "supported").all()
    assert found["neurons"].tolist() == [SAMPLED] * 4


def test_the_estimate_is_over_the_sampled_neurons_and_its_interval_holds_it():
    single, totals = invented(noise=1.0)
    one = judged("gradient_attribution", single, totals).table_.iloc[3]
    cell, scored = single.sel(step=10, language="php"), totals.sel(step=10, language="php")
    score = scored["total"].sum("block").to_numpy()[cell["layer"], cell["neuron"]]
    assert one["rho"] == pytest.approx(spearmanr(score, cell["change"].sum("block")).statistic)
    assert one["low"] < one["rho"] < one["high"]
    assert 0.05 < one["high"] - one["low"] < 0.3  # Fisher: ± 1.96 · (1 − ρ²)/√160 ≈ ± 0.09, a little more


def test_a_score_of_size_is_held_against_size_alone():
    assert (judged("plnd_ffn", *invented(size_only=True)).table_["rho"] > 0.999).all()
    assert (judged("plnd_ffn", *invented(size_only=True)).table_["finding"] == "supported").all()
    signed = judged("gradient_attribution", *invented(size_only=True)).table_
    assert (signed["rho"].abs() < 0.3).all()
    assert (signed["finding"] == "unsupported").all()


def test_a_specific_score_is_held_against_the_own_change_minus_the_others():
    single, totals = invented()
    totals["total"] = np.exp(totals["total"] / totals["tokens"].sum("block"))  # rates are positive
    contrast = judged("transferring_neurons", single, totals).table_
    assert (contrast["rho"] > 0.8).all()
    single["change"] = single["change"].sum("language") * xr.ones_like(single["change"])
    alike = judged("transferring_neurons", single, totals).table_
    assert (alike["finding"] != "supported").all()


def test_speaking_for_the_target_means_that_zeroing_moves_the_choice_to_the_pivot():
    single, totals = invented()
    choice = single.drop_vars("tokens").isel(language=1, block=[0]).rename(block="prompt")
    results = {"single_ablation_choice": choice, "identifier_attribution": totals}
    found = ScoreValidity(results, target="php").table_
    np.testing.assert_allclose(found["rho"], 1)
    assert found["language"].unique().tolist() == ["php"]


def test_below_a_half_a_method_says_itself_that_it_is_unsupported():
    found = judged("gradient_attribution", *invented(noise=6.0))
    assert found.unsupported("gradient_attribution")
    assert found.verdict_[0].count("unsupported here for") == 2
    assert "(ρ = .1" in found.verdict_[0] or "(ρ = .2" in found.verdict_[0]
    good = judged("gradient_attribution", *invented(noise=0.3))
    assert not good.unsupported("gradient_attribution")


def test_an_interval_that_holds_a_half_is_said_to(monkeypatch):
    monkeypatch.setattr(score_validity, "DRAWS", 100)
    for seed in range(8):
        found = judged("gradient_attribution", *invented(noise=1.6, seed=seed))
        row = found.table_.iloc[-1]
        held = row["low"] < 0.5 <= row["high"]
        assert held == ("an interval that holds .50" in found.verdict_[0].split("PHP")[1])


def test_neurons_that_are_all_alike_are_not_resolvable():
    single, totals = invented()
    found = judged("gradient_attribution", single, totals * 0 + 1)
    assert (found.table_["finding"] == "not resolvable").all()
    assert "not resolvable for PHP" in found.verdict_[0]


def test_without_ablation_there_is_nothing_to_judge_by():
    _, totals = invented()
    with pytest.raises(InputError, match="measure single_ablation"):
        ScoreValidity({"gradient_attribution": totals}, target="php")
