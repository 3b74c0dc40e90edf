"""The switch layer on made-up cells, of which the answer is known or can be searched for."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses.switch_layer import ALWAYS, NEVER, SWITCH, UNRESOLVED, SwitchLayer

NAMES = {"pivot": "python", "target": "php"}
CONCEPTS, PROMPTS, LAYERS, DRAWS = 8, 8, 6, 20
SHAPE = (LAYERS, CONCEPTS * PROMPTS)


class Measured(dict):
    def __init__(self, steps, elsewhere=None):
        super().__init__(working_language=cells(steps, elsewhere))

    def null(self, _measure):
        return cells([np.full(SHAPE, -1)]).isel(step=0, drop=True)


def cells(steps, elsewhere=None):
    """Top languages by (layer, prompt) at each step: 0 the pivot's, 1 the target's, −1 neither's."""
    top = np.stack(steps)
    elsewhere = np.full(top.shape, -1) if elsewhere is None else np.stack([elsewhere] * len(top))
    cell = ("step", "layer", "prompt")
    return xr.Dataset(
        {
            "top": (cell, top),
            "elsewhere_top": (cell, elsewhere),
            "null_top": ((*cell, "draw", "language"), np.zeros((*top.shape, DRAWS, 2), bool)),
            "share": ((*cell, "language"), np.full((*top.shape, 2), 0.5)),
        },
        coords={
            "step": 100 * np.arange(1, len(top) + 1),
            "layer": np.arange(1, LAYERS + 1),
            "language": ["python", "php"],
            "concept": ("prompt", np.repeat([f"concept {n}" for n in range(CONCEPTS)], PROMPTS)),
            "spoken": ("prompt", ["php"] * SHAPE[1]),
        },
    )


def noisy(pivot, target, *, seed=0):
    """Cells that decode to the pivot and to the target with these probabilities, layer by layer."""
    draw = np.random.default_rng(seed).random(SHAPE)
    pivot, target = (np.broadcast_to(p, LAYERS)[:, None] for p in (pivot, target))
    return np.where(draw < pivot, 0, np.where(draw > 1 - target, 1, -1))


def row(top, elsewhere=None):
    return SwitchLayer(Measured([top], elsewhere), **NAMES).table_.iloc[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_layer_is_where_a_step_function_leaves_the_least_squares(seed):
    top = noisy([0.3, 0.5, 0.6, 0.4, 0.2, 0.1], [0.0, 0.1, 0.2, 0.3, 0.6, 0.8], seed=seed)
    lead = (top == 0).mean(1) - (top == 1).mean(1)
    left = [sum(((part - part.mean()) ** 2).sum() for part in np.split(lead, [s])) for s in range(1, LAYERS)]
    found = SwitchLayer(Measured([top]), **NAMES)
    assert found.table_["layer"].item() == 1 + np.argmin(left)
    assert found.table_["low"].item() <= found.table_["layer"].item() <= found.table_["high"].item()


@pytest.mark.parametrize("layer", [1, 3, 5])
def test_a_clear_switch_is_found_whatever_the_share_of_the_prompts_that_make_it(layer):
    before = np.arange(LAYERS) < layer
    for share in (0.4, 1.0):
        found = row(noisy(share * before, np.where(before, 1 - share, 1)))
        assert (found["finding"], found["layer"]) == (SWITCH, layer)
        assert layer - 1 <= found["low"] <= layer <= found["high"] <= layer + (share < 1)


def test_a_model_that_never_decodes_to_the_pivot_has_layer_0():
    found = row(noisy(0, [0, 0, 0, 0.3, 0.6, 0.9]))
    assert (found["finding"], found["layer"], found["resolved"]) == (NEVER, 0, False)


def test_a_model_that_never_leaves_the_pivot_has_the_last_layer():
    for top in (noisy(0.8, 0.1), noisy([0.9, 0.9, 0.9, 0.7, 0.7, 0.7], [0, 0, 0, 0.2, 0.2, 0.2])):
        found = row(top)
        assert (found["finding"], found["layer"], found["resolved"]) == (ALWAYS, LAYERS, False)


def test_prompts_that_disagree_on_whether_the_pivot_is_left_resolve_nothing():
    half = np.repeat(np.arange(CONCEPTS) < CONCEPTS // 2, PROMPTS)
    stays, switches = noisy(0.9, 0), noisy([0.9, 0.9, 0.9, 0, 0, 0], [0, 0, 0, 0.9, 0.9, 0.9])
    found = row(np.where(half, stays, switches))
    assert found["finding"] == UNRESOLVED
    assert np.isnan(found["layer"])
    assert found["high"] == LAYERS
    assert "Python's are not left beyond the nulls" in found["reason"]


def test_one_concept_alone_does_not_show_that_the_pivot_is_decoded():
    top = noisy(0, np.repeat([0, 0.9], 3))
    top[:3, :PROMPTS] = 0
    found = row(top)
    assert (found["finding"], found["low"]) == (UNRESOLVED, 0)
    assert "no layer decodes to Python's beyond the nulls" in found["reason"]


def test_what_also_happens_elsewhere_is_no_switch():
    falling = np.repeat([0.8, 0.1], 3), np.repeat([0.1, 0.8], 3)
    top = noisy(*falling)
    assert row(top)["finding"] == SWITCH
    assert row(top, elsewhere=noisy(*falling, seed=1))["finding"] != SWITCH


def test_steps_are_told_apart_and_summed_up_in_one_sentence():
    early = noisy(0.5, 0)
    late = noisy(np.repeat([0.6, 0.0], [4, 2]), np.repeat([0.0, 0.9], [4, 2]))
    found = SwitchLayer(Measured([early, late]), **NAMES)
    assert found.table_["finding"].tolist() == [ALWAYS, SWITCH]
    assert found.verdict_ == (
        "At step 200 layers up to 4 of 6 (4 to 4) decode to Python's identifiers where PHP's are due in "
        f"{(late[:4] == 0).mean():.0%} of the cells (nulls: at most 0%), and later ones rather to PHP's; "
        "that layer is resolved at 1 of 2 trained checkpoints, always layer 4."
    )
    nothing = SwitchLayer(Measured([early]), **NAMES).verdict_
    assert nothing == (
        "No trained checkpoint resolves a layer at which decoding switches from Python's identifiers to "
        "PHP's (never leaves the pivot at 1)."
    )
