"""Conclusions about the direction's effect, from invented results of known content."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import t as student

from babelscope.analyses.direction_effect import DirectionEffects
from babelscope.analyses.figures.direction_effect import direction_effect_figure, layer_effect_figure

STEPS, LAYERS, DRAWS, PROMPTS = np.array([0, 10, 20]), 4, 20, 40


def invented(*, effect=0.0, mediated=0.0, seed=0):
    """Every change moves the log-odds by noise; those along the direction by `effect` as well."""
    rng = np.random.default_rng(seed)
    shape = (len(STEPS), 2, LAYERS, PROMPTS)
    null_shape = (len(STEPS), 2, LAYERS, DRAWS, PROMPTS)
    cell = ("step", "intervention", "layer", "prompt")
    drawn = ("step", "intervention", "layer", "draw", "prompt")
    before = rng.normal(-1, 0.1, (len(STEPS), PROMPTS))
    # What a direction does, it does to all prompts: its mean does not shrink with their number.
    of_cell, of_draw = rng.normal(0, 0.3, shape[:-1]), rng.normal(0, 0.3, null_shape[:-1])
    after = before[:, None, None] + of_cell[..., None] + effect + rng.normal(0, 0.5, shape)
    null_after = before[:, None, None, None] + of_draw[..., None] + rng.normal(0, 0.5, null_shape)
    data = xr.Dataset(
        {
            "before": (("step", "prompt"), before),
            "right_before": (("step", "prompt"), np.full_like(before, 0.5)),
            "shift": (cell, np.ones(shape)),
            "after": (cell, after),
            "direct": (cell, after - mediated - rng.normal(0, 0.1, shape)),
            "right_after": (cell, np.full(shape, 0.4)),
            "null_after": (drawn, null_after),
            "null_direct": (drawn, null_after - rng.normal(0, 0.1, null_shape)),
            "null_right_after": (drawn, np.full(null_shape, 0.5)),
        },
        coords={
            "step": STEPS,
            "intervention": ["ablate", "patch"],
            "layer": np.arange(1, LAYERS + 1),
            "concept": ("prompt", np.repeat(["length", "show", "raise", "join"], PROMPTS // 4)),
        },
        attrs={"intermediate": [1, 2, 3]},
    )
    return {"direction_effect": data}


def concluded(**known):
    return DirectionEffects(invented(**known), pivot="python", target="php")


def rows(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def test_estimates_are_means_over_prompts_and_intervals_hold_them():
    data = invented(effect=1.5)["direction_effect"]
    found = concluded(effect=1.5)
    one = rows(found.table_, step=10, layer=2, intervention="patch").set_index("statistic")
    cell = data.sel(step=10, layer=2, intervention="patch")
    before, after = cell["before"].to_numpy(), cell["after"].to_numpy()
    assert one.loc["effect", "estimate"] == pytest.approx((after - before).mean())
    assert one.loc["flipped", "estimate"] == pytest.approx(((after > 0) != (before > 0)).mean())
    assert one.loc["right", "estimate"] == pytest.approx(-0.1)
    total = one.loc["direct", "estimate"] + one.loc["mediated", "estimate"]
    assert total == pytest.approx(one.loc["effect", "estimate"])
    assert (found.table_["low"] <= found.table_["estimate"]).all()
    assert (found.table_["estimate"] <= found.table_["high"]).all()


def test_intervals_are_widened_for_few_concepts():
    """Where concepts alone differ, a mean of n of them has Student's interval."""
    n = 5
    of_concept = np.array([-1.2, -0.4, 0.1, 0.6, 0.9])
    data = invented()["direction_effect"]
    prompt = np.arange(PROMPTS) % n
    data = data.assign_coords(concept=("prompt", np.array(list("abcde"))[prompt]))
    data["after"] = data["after"].copy(data=np.broadcast_to(of_concept[prompt], data["after"].shape))
    data["before"] = xr.zeros_like(data["before"])
    found = DirectionEffects({"direction_effect": data}, pivot="python", target="php")
    one = rows(found.intermediate_, statistic="effect", step=10, intervention="patch").iloc[0]
    half = student.ppf(0.975, n - 1) * of_concept.std(ddof=1) / n**0.5
    assert (one["high"] - one["low"]) / 2 == pytest.approx(half, rel=0.15)


def test_the_null_band_leaves_out_one_draw_at_most_at_either_end():
    data = invented()["direction_effect"].sel(step=20, layer=1, intervention="ablate")
    means = np.sort((data["null_after"] - data["before"]).mean("prompt").to_numpy())
    one = rows(concluded().table_, step=20, layer=1, intervention="ablate", statistic="effect").iloc[0]
    assert any(one["null_low"] == pytest.approx(mean) for mean in means[:2])
    assert any(one["null_high"] == pytest.approx(mean) for mean in means[-2:])


def test_an_effect_is_found_and_no_part_is_given_to_later_blocks_that_have_none():
    found = concluded(effect=3.0)
    assert rows(found.intermediate_, statistic="effect")["outside_null"].all()
    assert "beyond random directions at 2 of 2 trained checkpoints" in found.verdict_
    assert "outside its null at none of the 2" in found.verdict_


def test_what_later_blocks_add_is_told_from_what_passes_them():
    found = concluded(effect=3.0, mediated=1.0)
    part = rows(found.intermediate_, statistic="mediated", intervention="patch")
    assert part["outside_null"].all()
    np.testing.assert_allclose(part["estimate"], 1.0, atol=0.1)
    assert "outside its null at 2 of the 2" in found.verdict_


def test_a_direction_like_any_other_rarely_leaves_the_null():
    """Of three steps in two interventions, in six series: the band is 90%, and the interval widens it."""
    outside = [
        rows(concluded(seed=seed).intermediate_, statistic="effect")["outside_null"].mean()
        for seed in range(6)
    ]
    assert np.mean(outside) < 0.1
    assert "does not move the log-odds" in concluded().verdict_


def test_figures_mark_what_leaves_its_null():
    found = concluded(effect=3.0)
    over_steps = direction_effect_figure(found.intermediate_, pivot="python", target="php")
    effect = next(trace for trace in over_steps.data if trace.name and trace.name.startswith("effect"))
    assert set(effect.marker.color) == {effect.line.color}
    by_layer = layer_effect_figure(
        found.table_, steps=[0, 20], intermediate=found.layers_, pivot="python", target="php"
    )
    drawn = [trace for trace in by_layer.data if trace.mode == "lines+markers"]
    np.testing.assert_allclose(
        drawn[1].y, rows(found.table_, step=20, intervention="patch", statistic="effect")["estimate"]
    )
