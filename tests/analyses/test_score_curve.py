"""A curve is what was asked and solved; anything else is refused in words that quote it."""

import numpy as np
import pandas as pd
import pytest

from babelscope.analyses.score_curve import ScoreCurve
from babelscope.core.errors import InputError

STEPS = np.array([0, 10, 20, 40, 80, 160, 320])
SOLVED = np.array([0, 1, 4, 9, 8, 5, 5])
OUTCOMES = np.arange(12)[:, None] < SOLVED


def long_table():
    return pd.DataFrame(
        [
            {"step": step, "problem": f"p{row}", "passed": bool(OUTCOMES[row, column])}
            for column, step in enumerate(STEPS)
            for row in range(12)
        ]
    )


def counts_table():
    return pd.DataFrame({"step": STEPS, "solved": SOLVED, "total": 12})


def write(table, path):
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    return path


def test_counts_follow_from_outcomes():
    curve = ScoreCurve.from_outcomes(STEPS, OUTCOMES)
    np.testing.assert_array_equal(curve.solved, SOLVED)
    np.testing.assert_array_equal(curve.total, np.full(7, 12))


def test_steps_are_put_in_order_with_what_belongs_to_them():
    shuffled = np.random.default_rng(0).permutation(7)
    curve = ScoreCurve.from_outcomes(STEPS[shuffled], OUTCOMES[:, shuffled])
    np.testing.assert_array_equal(curve.steps, STEPS)
    np.testing.assert_array_equal(curve.outcomes, OUTCOMES)
    curve = ScoreCurve.from_counts(STEPS[shuffled], SOLVED[shuffled], 12 + shuffled)
    np.testing.assert_array_equal(curve.solved, SOLVED)
    np.testing.assert_array_equal(curve.total, 12 + np.arange(7))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_tables_of_counts_and_of_outcomes_are_read_in_every_format(tmp_path, suffix):
    counts = ScoreCurve.from_table(write(counts_table(), tmp_path / f"counts{suffix}"))
    outcomes = ScoreCurve.from_table(write(long_table(), tmp_path / f"outcomes{suffix}"))
    for curve in (counts, outcomes):
        np.testing.assert_array_equal(curve.steps, STEPS)
        np.testing.assert_array_equal(curve.solved, SOLVED)
        np.testing.assert_array_equal(curve.total, np.full(7, 12))
    assert counts.outcomes is None
    assert outcomes.outcomes is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename(columns={"passed": "ok"}), "columns 'step', 'problem', 'ok'"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "'p0' is there more than once at step 0"),
        (lambda t: t.iloc[1:], "'p0' has no outcome at step 0"),
        (lambda t: t.assign(passed="yes"), "an outcome is 'yes'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_its_own_words(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        ScoreCurve.from_table(write(change(long_table()), tmp_path / "scores.csv"))


def test_files_that_are_no_tables_are_named(tmp_path):
    with pytest.raises(InputError, match=r"missing\.csv does not exist"):
        ScoreCurve.from_table(tmp_path / "missing.csv")
    with pytest.raises(InputError, match=r"ends in '\.xlsx'"):
        ScoreCurve.from_table(tmp_path / "scores.xlsx")
    for name in ("broken.parquet", "broken.jsonl", "empty.csv"):
        (tmp_path / name).write_text("" if name == "empty.csv" else "{no")
        with pytest.raises(InputError, match=name):
            ScoreCurve.from_table(tmp_path / name)


@pytest.mark.parametrize(
    ("steps", "solved", "total", "message"),
    [
        ([0, 10, 10, 20, 40, 80, 160], SOLVED, 12, "step 10 is there more than once"),
        (STEPS - 10, SOLVED, 12, "step -10 is negative"),
        (STEPS[:6], SOLVED[:6], 12, "5 checkpoints after step 0"),
        (STEPS, SOLVED + 5, 12, "step 40: 14 solved of 12"),
        (STEPS, SOLVED - 1, 12, "step 0: -1 solved"),
        (STEPS, SOLVED * 0, 0, "step 0: 0 solved of 0"),
        (STEPS, [0, 1, np.nan, 9, 8, 5, 5], 12, "solved has nan"),
        (STEPS, SOLVED / 12, 12, r"solved has 0\.08"),
        (STEPS, ["a"] * 7, 12, "solved has 'a'"),
        (STEPS, SOLVED[:5], 12, "7 steps, 5 solved"),
        (STEPS, SOLVED, [12, 12], "2 totals"),
    ],
)
def test_counts_that_cannot_be_are_refused_with_the_value(steps, solved, total, message):
    with pytest.raises(InputError, match=message):
        ScoreCurve.from_counts(steps, solved, total)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        (OUTCOMES.T, r"shape \(7, 12\) for 7 steps"),
        (OUTCOMES[:0], r"shape \(0, 7\)"),
        (OUTCOMES * 0.5, r"an outcome is 0\.5"),
    ],
)
def test_outcomes_that_cannot_be_are_refused(outcomes, message):
    with pytest.raises(InputError, match=message):
        ScoreCurve.from_outcomes(STEPS, outcomes)


def test_a_curve_since_a_step_is_that_of_the_later_checkpoints():
    rng = np.random.default_rng(0)
    steps, outcomes = np.arange(0, 100, 10), rng.random((12, 10)) < 0.5
    since = ScoreCurve.from_outcomes(steps, outcomes).since(30)
    later = ScoreCurve.from_outcomes(steps[3:], outcomes[:, 3:])
    for name in ("steps", "solved", "total", "outcomes"):
        assert np.array_equal(getattr(since, name), getattr(later, name))
    with pytest.raises(InputError, match="2 checkpoints"):
        ScoreCurve.from_outcomes(steps, outcomes).since(80)
