"""Scores, changes and knowledge transferred, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binom

from babelscope.analyses.evaluation import changes, knowledge_transferred, pivot_specific, scores_at_k
from babelscope.core.errors import InputError
from babelscope.core.stats import wilson_interval


def dataset(solved, *, languages, ids, ran=None, steps=None):
    """`solved`: (step, problem, sample)."""
    solved = np.asarray(solved, bool)
    dims = "step", "problem", "sample"
    return xr.Dataset(
        {
            "solved": (dims, solved),
            "ran": (dims, np.ones_like(solved) if ran is None else np.asarray(ran, bool)),
        },
        coords={
            "step": steps or list(range(len(solved))),
            "id": ("problem", ids),
            "language": ("problem", languages),
            "group": ("problem", ["all"] * len(ids)),
        },
    )


def greedy(by_step, *, language="php", ids=None):
    by_step = np.asarray(by_step, bool)
    ids = ids or [str(n) for n in range(by_step.shape[1])]
    return dataset(by_step[:, :, None], languages=[language] * len(ids), ids=ids)


def test_greedy_scores_have_wilsons_interval():
    found = scores_at_k(greedy([[1, 0, 0, 0], [1, 1, 1, 0]])).set_index("step")
    assert found["estimate"].tolist() == [0.25, 0.75]
    np.testing.assert_allclose(found.loc[1, ["low", "high"]].astype(float), wilson_interval(3, 4))


def test_several_samples_are_scored_without_bias_and_problems_are_resampled():
    solved = np.zeros((1, 40, 5), bool)
    solved[0, :20, :1] = True  # 1 of 5 in half of the problems
    found = scores_at_k(dataset(solved, languages=["php"] * 40, ids=[str(n) for n in range(40)]), (1, 2, 5))
    assert found["estimate"].tolist() == pytest.approx([0.1, 0.2, 0.5])
    spread = np.sqrt(0.25 / 40)
    assert found["low"].iloc[2] == pytest.approx(0.5 - 1.96 * spread, abs=0.05)
    assert found["high"].iloc[2] == pytest.approx(0.5 + 1.96 * spread, abs=0.05)


def test_a_k_beyond_the_samples_is_refused():
    with pytest.raises(InputError, match="pass@10 of 1 completions"):
        scores_at_k(greedy([[1, 0]]), (1, 10))


def test_problems_that_were_not_run_are_counted_and_nobodys_failures():
    data = greedy([[1, 0, 0, 0]])
    data["ran"].loc[{"problem": [2, 3]}] = False
    row = scores_at_k(data).iloc[0]
    assert (row["problems"], row["not_run"], row["estimate"]) == (2, 2, 0.5)


def test_a_language_of_which_nothing_was_run_has_no_score():
    data = greedy([[0, 0]])
    data["ran"][:] = False
    row = scores_at_k(data).iloc[0]
    assert row["problems"] == 0
    assert np.isnan(row["estimate"])
    assert changes(data).empty


def test_changes_count_what_was_gained_and_lost():
    data = greedy([[1, 1, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1, 1, 0, 0]])
    row = changes(data).iloc[0]
    assert (row["step"], row["against"], row["gained"], row["lost"]) == (1, 0, 6, 1)
    assert row["p"] == pytest.approx(2 * binom.cdf(1, 7, 0.5))
    assert row["difference"] == pytest.approx(0.5)
    assert row["low"] <= 0.5 <= row["high"]


def test_every_checkpoint_is_held_against_the_one_before_and_the_first():
    found = changes(greedy([[1, 0], [1, 1], [0, 1]]))
    assert list(zip(found["step"], found["against"], strict=True)) == [(1, 0), (2, 0), (2, 1)]


def test_pivot_specific_problems_are_solved_by_the_pivot_run_and_by_no_run_of_the_target_alone():
    pivot = greedy([[1, 1, 1, 0]], language="python", ids=["a", "b", "c", "d"])
    target = greedy(
        [[0, 0, 1], [0, 1, 0]], ids=["a", "b", "e"]
    )  # the last checkpoint counts; c was not asked
    assert pivot_specific(pivot, target, pivot="python", target="php") == {"a"}


def test_runs_that_share_no_problem_are_refused():
    with pytest.raises(InputError, match="no problem was asked both in python"):
        pivot_specific(
            greedy([[1]], language="python", ids=["a"]),
            greedy([[1]], ids=["b"]),
            pivot="python",
            target="php",
        )


def test_knowledge_transferred_is_a_share_of_what_is_solved_and_undefined_where_nothing_is():
    data = greedy([[0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], ids=["a", "b", "c", "d"])
    found = knowledge_transferred(data, frozenset({"a", "b", "z"}), target="php")
    assert found["solved"].tolist() == [0, 3, 2]
    assert found["share"].tolist()[1:] == pytest.approx([2 / 3, 0.0])
    assert np.isnan(found["share"].iloc[0])
    assert np.isnan(found["low"].iloc[0])
