"""Tables against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from babelscope.analyses import tables
from babelscope.analyses.pivot_share import PivotShare, identifier_choice
from babelscope.core.errors import InputError
from babelscope.interp.lape import Thresholds

LANGUAGES = ["python", "php"]
DRAWS = 20


class Stored(dict[str, xr.Dataset]):
    """Results that were never measured: what a store would give back."""

    def __init__(self, null: xr.Dataset | None = None, **measures: xr.Dataset):
        super().__init__(measures)
        self._null = null

    def null(self, _measure: str) -> Any:
        return self._null


def cells(pivot_tops: float, *, steps=(0, 10), prompts=40, layers=6, seed=0) -> xr.Dataset:
    """Working-language cells in which a share of the top tokens is the pivot's, the rest nobody's."""
    rng = np.random.default_rng(seed)
    shape = (len(steps), layers, prompts)
    top = np.where(rng.random(shape) < pivot_tops, 0, -1).astype(np.int8)
    top[:, -1] = 1  # the last layer writes the target
    share = np.stack([np.full(shape, 0.8), np.full(shape, 0.2)], -1)
    share[:, -1] = [0.1, 0.9]
    null = rng.random((*shape, DRAWS, 2)) < 0.02
    cell = ("step", "layer", "prompt")
    by_language = (*cell, "language")
    return xr.Dataset(
        {
            **{f"{place}entropy": (cell, np.full(shape, 2.0)) for place in ("", "elsewhere_")},
            **{f"{place}rank": (cell, np.full(shape, 4)) for place in ("", "elsewhere_", "null_")},
            "top": (("step", "layer", "prompt"), top),
            "share": (by_language, share),
            "mass": (by_language, share / 2),
            "elsewhere_top": (("step", "layer", "prompt"), np.full(shape, -1, np.int8)),
            "elsewhere_share": (by_language, np.full((*shape, 2), 0.5)),
            "elsewhere_mass": (by_language, np.full((*shape, 2), 0.01)),
            "null_top": (("step", "layer", "prompt", "draw", "language"), null),
            "null_share": (("step", "layer", "prompt", "draw", "language"), np.full((*null.shape,), 0.5)),
            "null_mass": (("step", "layer", "prompt", "draw", "language"), np.full((*null.shape,), 0.01)),
        },
        coords={
            "step": list(steps),
            "layer": np.arange(1, layers + 1),
            "language": LANGUAGES,
            "spoken": ("prompt", ["php"] * prompts),
            "concept": ("prompt", [f"c{i % 8}" for i in range(prompts)]),
        },
        attrs={"intermediate": list(range(1, layers))},
    )


def pivot_share(pivot_tops: float) -> PivotShare:
    random = cells(0.0).isel(step=0, drop=True)
    random["share"][:] = 0.5
    random["mass"][:] = 0.01
    results = Stored(random, working_language=cells(pivot_tops))
    return PivotShare(results, pivot="python", target="php")  # pyright: ignore[reportArgumentType]


def test_the_papers_count_leaves_out_other_tokens_and_the_share_of_cells_does_not():
    found = pivot_share(0.3)
    inner = cells(0.3)["top"].isel(layer=slice(0, 5))
    np.testing.assert_allclose(found.estimate("count"), 1.0)
    np.testing.assert_allclose(found.estimate("cells"), (inner == 0).mean(["layer", "prompt"]))
    np.testing.assert_allclose(found.estimate("soft"), 0.8)
    np.testing.assert_allclose(found.estimate("mass"), 0.4)
    assert found.intermediate_ == [1, 2, 3, 4, 5]


def test_layers_that_decode_to_the_pivot_are_outside_their_nulls_and_said_to_be():
    found = pivot_share(0.3)
    table = found.rows("cells")
    assert table["above_null"].all()
    assert (table["low"] < table["estimate"]).all()
    assert (table["estimate"] < table["high"]).all()
    assert "above all nulls at 1 of 1 trained checkpoints" in found.verdict_


def test_layers_that_decode_to_the_pivot_no_more_than_random_sets_do_claim_nothing():
    found = pivot_share(0.02)
    table = found.rows("cells")
    assert not table["outside_null"].any()
    assert "do not decode to Python's more often than the nulls" in found.verdict_


def test_without_a_cell_to_look_at_nothing_is_claimed_either_way():
    random = cells(0.0).isel(step=0, drop=True)
    silent = cells(0.3)
    silent["top"][:, -1] = 0
    found = PivotShare(Stored(random, working_language=silent), pivot="python", target="php")  # pyright: ignore
    assert found.verdict_.startswith("No trained checkpoint writes PHP's identifiers")
    shares = [name for name in random if "share" in str(name)]
    only = Stored(random[shares], working_language=cells(0.3)[shares])
    found = PivotShare(only, pivot="python", target="php")  # pyright: ignore
    assert found.verdict_.startswith("Only the soft share was measured")


def test_what_is_emitted_is_read_only_where_the_model_writes_the_target():
    data = cells(0.3)
    data["top"][:, -1, :20] = 0  # at half of the prompts the model still writes the pivot's
    random = cells(0.0).isel(step=0, drop=True)
    found = PivotShare(Stored(random, working_language=data), pivot="python", target="php")  # pyright: ignore
    inner = data["top"].isel(layer=slice(0, 5), prompt=slice(20, None))
    expected = (inner == 0).mean(["layer", "prompt"])
    np.testing.assert_allclose(found.estimate("cells", prompts="emitted"), expected)
    assert found.emitted_.tolist() == [20, 20]


@pytest.mark.parametrize(("concepts", "claimed"), [(2, False), (3, True)])
def test_of_prompts_of_few_concepts_nothing_is_claimed(concepts, claimed):
    data = cells(1.0)
    data["top"][:, -1] = np.where(np.arange(40) % 8 < concepts, 1, -1)
    random = cells(0.0).isel(step=0, drop=True)
    found = PivotShare(Stored(random, working_language=data), pivot="python", target="php")  # pyright: ignore
    row = found.rows("cells", prompts="emitted").iloc[0]
    assert row["estimate"] == 1
    assert (row["above_null"], np.isfinite(row["low"])) == (claimed, claimed)


def test_ranks_are_averaged_as_logarithms():
    data = cells(0.3)
    data["rank"][:] = np.where(np.arange(40) % 2, 1, 100)
    found = PivotShare(Stored(cells(0).isel(step=0), working_language=data), pivot="python", target="php")  # pyright: ignore
    np.testing.assert_allclose(found.estimate("rank"), 10)
    np.testing.assert_allclose(found.layers_["rank"], 10)


def test_without_the_vocabulary_there_is_the_soft_share_alone():
    kept = ["share", "elsewhere_share", "null_share"]
    random = cells(0).isel(step=0)[kept]
    found = PivotShare(Stored(random, working_language=cells(0.3)[kept]), pivot="python", target="php")  # pyright: ignore
    assert set(found.table_["statistic"]) == {"soft"}
    np.testing.assert_allclose(found.estimate("soft"), 0.8)


def test_a_null_that_differs_between_concepts_is_not_left_by_being_above_its_mean():
    data, random = cells(0.3), cells(0).isel(step=0, drop=True)
    data["share"][:] = 0.6
    data["elsewhere_share"][..., 0] = np.where(np.arange(40) % 2, 0.2, 0.8)  # concepts are even or odd
    random["share"][:] = data["null_share"][:] = 0.1
    found = PivotShare(Stored(random, working_language=data), pivot="python", target="php")  # pyright: ignore
    row = found.rows("soft").iloc[0]
    assert row["low"] > max(row["elsewhere"], row["random_model"], row["random_sets_high"])
    assert not row["outside_null"]


def test_no_cell_with_an_identifier_has_no_count():
    assert np.isnan(pivot_share(0.0).estimate("count")).all()


def test_identifier_choice_is_read_at_the_last_layer():
    steps, chosen = identifier_choice(cells(0.3), pivot="python", target="php")
    assert steps.tolist() == [0, 10]
    assert chosen.all()


def scores() -> Stored:
    solved = np.array([[0, 1], [0, 1], [1, 1], [0, 0]], bool).T  # (step, problem)
    return Stored(
        problem_scores=xr.Dataset(
            {
                "solved": (("step", "problem", "sample"), solved[:, :, None]),
                "ran": (("step", "problem", "sample"), np.ones((2, 4, 1), bool)),
            },
            coords={
                "step": [0, 5],
                "id": ("problem", ["a", "b", "c", "a"]),
                "language": ("problem", ["php", "php", "php", "python"]),
                "group": ("problem", ["both", "pivot only", "pivot only", "both"]),
            },
        )
    )


def test_scores_are_counted_by_language_and_group():
    table = tables.scores(scores()).set_index(["language", "group", "step"])  # pyright: ignore[reportArgumentType]
    assert table["solved"].to_dict() == {
        ("php", "all", 0): 1,
        ("php", "all", 5): 3,
        ("php", "both", 0): 0,
        ("php", "both", 5): 1,
        ("php", "pivot only", 0): 1,
        ("php", "pivot only", 5): 2,
        ("python", "all", 0): 0,
        ("python", "all", 5): 0,
    }


def test_problems_that_were_not_run_are_nobodys_failures():
    data = scores()["problem_scores"]
    data["ran"].loc[{"problem": 1}] = False
    assert tables.outcomes(data, "php")[1] == ["a", "c"]


def test_several_completions_of_a_problem_are_no_outcome_of_it():
    data = scores()["problem_scores"]
    with pytest.raises(InputError, match="completed 2 times each"):
        tables.outcomes(xr.concat([data, data], dim="sample"), "php")


def test_outcomes_keep_problems_in_rows_and_steps_in_columns():
    steps, ids, solved = tables.outcomes(scores()["problem_scores"], "php", ["pivot only"])
    assert steps.tolist() == [0, 5]
    assert ids == ["b", "c"]
    assert solved.tolist() == [[False, True], [True, True]]


def test_loss_is_per_token_and_bits_are_per_byte():
    data = xr.Dataset(
        {
            "nll": (("step", "document"), [[30.0, 10.0, 7.0]]),
            "tokens": (("step", "document"), [[10.0, 10.0, 7.0]]),
            "bytes": (("step", "document"), [[40.0, 40.0, 14.0]]),
        },
        coords={"step": [0], "language": ("document", ["python", "python", "php"])},
    )
    table = tables.losses(Stored(language_loss=data)).set_index("language")  # pyright: ignore[reportArgumentType]
    assert table.loc["python", "nats"] == 2.0
    assert table.loc["python", "bits_per_byte"] == pytest.approx(40 / 80 / np.log(2))
    assert (table.loc["python", "low"], table.loc["python", "high"]) == (1.0, 3.0)
    assert np.isnan(table.loc["php", "low"])  # one document says nothing about others


def firing(special: int, *, blocks=8, neurons=500) -> Stored:
    """Counts in which `special` neurons fire for php alone, growing by half at the second step."""
    rng = np.random.default_rng(0)
    rate = np.repeat(rng.beta(2, 8, size=(1, 1, 1, neurons)), 2, axis=1)  # (step, language, block, neuron)
    rate = np.repeat(np.repeat(rate, blocks, axis=2), 2, axis=0)
    for step, count in enumerate((special, special + special // 2)):
        rate[step, 0, :, :count], rate[step, 1, :, :count] = 0.0, 0.9
    positive = rng.binomial(400, rate)
    return Stored(
        transferring_neurons=xr.Dataset(
            {
                "total": (("step", "language", "block", "layer", "neuron"), positive[:, :, :, None, :]),
                "tokens": (("step", "language", "block"), np.full((2, 2, blocks), 400)),
            },
            coords={"step": [0, 10], "language": LANGUAGES},
        )
    )


def test_frozen_thresholds_count_what_the_fixed_budget_cannot():
    table = tables.neurons(firing(5)).set_index(["rule", "language", "step"])  # pyright: ignore[reportArgumentType]
    assert table.loc[("frozen", "php", 0), "count"] == 5
    assert table.loc[("frozen", "php", 10), "count"] == 7
    assert table.loc[("paper", "php", 10), "count"] <= 7
    assert table.loc[("frozen", "php", 10), "null_high"] < 5
    assert table.loc[("frozen", "php", 10), "false_discovery"] < 0.5


def test_text_shuffled_between_languages_has_no_neurons_of_one_language():
    table = tables.neurons(firing(0))  # pyright: ignore[reportArgumentType]
    frozen = table[(table["rule"] == "frozen") & (table["step"] == 10)]
    # The threshold keeps five; which they are is chance, as the null says.
    assert (frozen["count"] <= frozen["null_high"] + 3).all()
    assert (frozen.query("count > 0")["false_discovery"] > 0.1).all()


def test_counts_are_those_of_the_thresholds():
    data = firing(5)["transferring_neurons"].sum("block")
    rate = (data["total"] / data["tokens"]).transpose("step", "language", "layer", "neuron").to_numpy()
    expected = Thresholds.of(rate[0]).members(rate[1]).reshape(2, -1).sum(1)
    table = tables.neurons(firing(5)).query("rule == 'frozen' and step == 10")  # pyright: ignore
    assert table["count"].tolist() == expected.tolist()
