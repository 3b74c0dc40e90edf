"""Conclusions about sets: from invented results of known content, and from a model with a planted set."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import t as student

from babelscope.analyses.figures.set_effects import set_effects_figure
from babelscope.analyses.set_effects import Finding, SetEffects
from babelscope.core.errors import InputError

LANGUAGES, MODES, DRAWS = ["python", "php", "lua"], ["zero", "mean", "resample"], 8
STEPS = np.array([0, 10, 20])


def invented(
    *, own=None, spread=0.02, documents=6, size=20, noise=0.01, sets=LANGUAGES, seed=0
) -> dict[str, xr.Dataset]:
    """Sets do to each language what random ones do, give or take `spread`, and to their own `own` more."""
    rng = np.random.default_rng(seed)
    language = np.repeat(sets, documents)
    tokens = rng.integers(50, 150, len(language))
    before = 2.0 * tokens + rng.normal(0, 5, (len(STEPS), len(language)))
    shape = (len(STEPS), len(sets), 1 + DRAWS, len(MODES))
    what = rng.normal(0.05, spread, (*shape, len(sets)))  # nats per token, by measured language
    of_language = np.array([sets.index(name) for name in language])
    for name, extra in (own or {}).items():
        what[:, sets.index(name), 0, :, sets.index(name)] += extra
    rise = what[..., of_language] + rng.normal(0, noise, (*shape, len(language)))
    after = before[:, None, None, None] + rise * tokens
    dims = ("step", "set", "draw", "mode", "document")
    return {
        "set_ablation": xr.Dataset(
            {
                "before": (("step", "document"), before),
                "tokens": (("step", "document"), np.tile(tokens, (len(STEPS), 1))),
                "after": (("step", "set", "mode", "document"), after[:, :, 0]),
                "null_after": (dims, after[:, :, 1:]),
                "size": (("step", "set", "layer"), np.full((len(STEPS), len(sets), 4), size // 4)),
            },
            coords={"step": STEPS, "set": sets, "mode": MODES, "language": ("document", language)},
        )
    }


def invented_choice(effect, *, seed=0):
    """`effect` on the log-odds by set; random sets do nothing, give or take."""
    rng = np.random.default_rng(seed)
    modes = [*MODES, "amplify", "patch"]
    sets, prompts = list(effect), 24
    side = np.array([1, 1, 1, -1, 1])
    before = rng.normal(-1, 0.2, (len(STEPS), prompts))
    what = rng.normal(0, 0.1, (len(STEPS), len(sets), 1 + DRAWS, len(modes)))
    what[:, :, 0] += np.array(list(effect.values()))[:, None] * side
    after = before[:, None, None, None] + what[..., None] + rng.normal(0, 0.1, (*what.shape, prompts))
    dims = ("step", "set", "draw", "mode", "prompt")
    data = xr.Dataset(
        {
            "before": (("step", "prompt"), before),
            "after": (("step", "set", "mode", "prompt"), after[:, :, 0]),
            "null_after": (dims, after[:, :, 1:]),
            "right_before": (("step", "prompt"), np.full_like(before, 0.5)),
            "right_after": (("step", "set", "mode", "prompt"), np.full(after[:, :, 0].shape, 0.25)),
            "null_right_after": (dims, np.full(after[:, :, 1:].shape, 0.5)),
            "size": (("step", "set", "layer"), np.full((len(STEPS), len(sets), 4), 5)),
        },
        coords={
            "step": STEPS,
            "set": sets,
            "mode": modes,
            "concept": ("prompt", np.repeat(list("abcdef"), prompts // 6)),
        },
    )
    return {"set_ablation_choice": data}


def concluded(results):
    return SetEffects(results, pivot="python", target="php")


def rows(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def test_effects_are_rises_of_the_loss_per_token():
    results = invented(own={"php": 0.3})
    data, found = results["set_ablation"], concluded(results)
    one = rows(found.table_, step=10, set="php", mode="mean", measured="lua").iloc[0]
    cell = data.sel(step=10)
    lua = (data["language"] == "lua").to_numpy()
    tokens = cell["tokens"].to_numpy()[lua].sum()
    rise = (cell["after"].sel(set="php", mode="mean") - cell["before"]).to_numpy()[lua].sum() / tokens
    random = (cell["null_after"].sel(set="php", mode="mean") - cell["before"]).to_numpy()[:, lua].sum(
        1
    ) / tokens
    assert one["estimate"] == pytest.approx(rise)
    assert (one["null_low"], one["null_high"]) == pytest.approx((random.min(), random.max()))
    assert one["size"] == 20
    assert (found.table_["low"] <= found.table_["estimate"]).all()


def test_specificity_is_own_minus_others_and_set_minus_random_sets():
    results = invented(own={"php": 0.3})
    found = rows(concluded(results).specificity_, step=20, set="php", mode="zero").iloc[0]
    data = results["set_ablation"].sel(step=20, set="php", mode="zero")
    tokens = data["tokens"].groupby("language").sum()

    def specific(after):
        rise = (after - data["before"]).groupby("language").sum() / tokens
        return rise.sel(language="php") - rise.sel(language=["python", "lua"]).mean("language")

    expected = specific(data["after"]) - specific(data["null_after"]).mean("draw")
    assert found["estimate"] == pytest.approx(expected.item())


def test_the_interval_is_students_where_random_sets_alone_differ():
    results = invented(noise=0.0)
    found = concluded(results).specificity_
    data = results["set_ablation"].sel(step=20, set="php", mode="zero")
    rise = ((data["null_after"] - data["before"]) / data["tokens"]).groupby("language").mean()
    random = rise.sel(language="php") - rise.sel(language=["python", "lua"]).mean("language")
    half = student.ppf(0.975, DRAWS - 1) * random.std(ddof=1).item() * (1 + 1 / DRAWS) ** 0.5
    one = rows(found, step=20, set="php", mode="zero").iloc[0]
    assert (one["high"] - one["low"]) / 2 == pytest.approx(half, rel=1e-3)


def test_documents_that_differ_widen_the_interval():
    def width(noise):
        table = rows(concluded(invented(noise=noise)).specificity_, mode="zero")
        return (table["high"] - table["low"]).mean()

    assert width(0.3) > 1.5 * width(0.0)


def test_a_set_that_its_language_needs_is_supported_and_the_others_are_not():
    found = concluded(invented(own={"php": 0.3}))
    table = found.specificity_
    assert (rows(table, set="php")["finding"] == Finding.SUPPORTED).all()
    assert not (rows(table, set="lua")["finding"] == Finding.SUPPORTED).any()
    assert "costs PHP more than Python and Lua, more than matched random sets do, at 2 of 2" in found.verdict_
    assert "Lua's neurons (20) zeroed: that this costs Lua more" in found.verdict_
    assert "unsupported" in found.verdict_


def test_of_sets_drawn_like_their_random_ones_about_one_in_forty_is_supported():
    """Sets, steps and modes are drawn anew: 270 sets. 2.5% are expected where random sets are normal."""
    findings = [concluded(invented(seed=seed)).specificity_["finding"] for seed in range(10)]
    supported = np.mean([found == Finding.SUPPORTED for found in findings])
    assert 0 < supported < 0.05


def test_a_set_that_helps_its_own_language_less_than_others_is_unsupported():
    """All languages gain, the others more than the own: that is no harm done to the own."""
    results = invented()
    after = results["set_ablation"]["after"]
    gain = xr.where(after["language"] == "php", 0.2, 0.6) * results["set_ablation"]["tokens"]
    results["set_ablation"]["after"] = after - gain
    table = rows(concluded(results).specificity_, set="php")
    assert (table["estimate"] > 0.2).all()
    assert (table["finding"] == Finding.UNSUPPORTED).all()


@pytest.mark.parametrize("missing", ["set", "random sets", "documents"])
def test_too_little_data_is_not_resolvable(missing):
    results = invented(own={"php": 0.3}, documents=1 if missing == "documents" else 6)
    data = results["set_ablation"]
    if missing == "set":
        data["after"], data["size"] = data["after"] * np.nan, data["size"] * 0
    if missing != "documents":
        data["null_after"] = data["null_after"] * np.nan
    found = concluded(results)
    assert (found.specificity_["finding"] == Finding.UNRESOLVED).all()
    without = " (2 without any)" if missing == "set" else ""
    assert f"is not resolvable at 2{without} of 2 trained checkpoints" in found.verdict_
    set_effects_figure(found, pivot="python", target="php")


def test_few_noisy_documents_do_not_make_a_set_unsupported():
    tables = [
        concluded(invented(own={"php": 0.5}, documents=6, noise=0.8, seed=seed)).specificity_
        for seed in range(4)
    ]
    findings = pd.concat(tables).pipe(rows, set="php")["finding"]
    assert (findings == Finding.UNSUPPORTED).mean() < 0.2
    assert (findings == Finding.UNRESOLVED).mean() > 0.5


def test_one_language_has_nothing_specific():
    with pytest.raises(InputError, match=r"sets of \['php'\] alone"):
        concluded(invented(sets=["php"]))


def test_sets_speak_for_their_own_language_where_removing_them_moves_the_choice_to_the_other():
    results = invented(sets=["python", "php"]) | invented_choice({"python": -1.0, "php": 1.0})
    found = concluded(results)
    assert (found.choice_["finding"] == Finding.SUPPORTED).all()
    php = rows(found.choice_, set="php", step=10).set_index("mode")
    assert php.loc["zero", "estimate"] == pytest.approx(1, abs=0.3)
    assert php.loc["amplify", "estimate"] == pytest.approx(-1, abs=0.3)
    assert (found.choice_["low"] < found.choice_["high"]).all()
    right = rows(found.table_, measured="right")
    np.testing.assert_allclose(right["estimate"], -0.25)
    assert "moves the choice toward Python" in found.choice_verdict_
    turned = concluded(invented(sets=["python", "php"]) | invented_choice({"python": 1.0, "php": -1.0}))
    assert (turned.choice_["finding"] == Finding.UNSUPPORTED).all()


def test_the_first_checkpoint_alone_is_judged_too():
    results = {name: data.isel(step=[0]) for name, data in invented(own={"php": 0.3}).items()}
    found = concluded(results)
    assert "PHP's neurons (20) zeroed: this costs PHP more" in found.verdict_
    assert "at 1 of 1 checkpoint; most at step 0" in found.verdict_


def test_without_prompts_there_is_nothing_of_the_choice():
    found = concluded(invented())
    assert found.choice_ is None
    assert found.choice_verdict_ is None


def test_figures_fill_what_is_supported():
    found = concluded(invented(own={"php": 0.3}))
    figure = set_effects_figure(found, pivot="python", target="php")
    judged = [trace for trace in figure.data if trace.name and trace.name.startswith("own − others")]
    assert set(judged[1].marker.color) == {judged[1].line.color}
    assert "white" in judged[2].marker.color
    own = rows(found.table_, set="php", measured="php", mode="zero", step=20)["estimate"].item()
    drawn = [trace for trace in figure.data if trace.name == "on PHP" and trace.xaxis == "x2"]
    assert drawn[0].y[-1] == pytest.approx(own)
