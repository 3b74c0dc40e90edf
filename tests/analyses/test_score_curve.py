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
        (lambda t: t.assign(passed="yes"), "passed has 'yes'"),
        (lambda t: t.assign(passed=["yes", *t["passed"][1:].astype(int).astype(str)]), "passed has 'yes'"),
        (lambda t: t.iloc[:0], "has no rows"),
        (lambda t: t.drop(columns="step"), "it needs step"),
        (lambda t: t.assign(sample=0).iloc[[0, *range(len(t))]], "'p0' is there more than once at step 0"),
        (
            lambda t: pd.concat([t.assign(sample=0), t.iloc[:1].assign(sample=1)]),
            "has 1 of 2 samples at step",
        ),
        (lambda t: pd.concat([t.assign(seed=0), t.query("step > 0").assign(seed=1)]), r"step \[0\]"),
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


# --- samples, training seeds, tokens


def test_several_samples_are_added_per_problem(tmp_path):
    samples = pd.concat([long_table().assign(sample=0), long_table().assign(sample=1, passed=False)])
    curve = ScoreCurve.from_table(write(samples, tmp_path / "samples.parquet"))
    np.testing.assert_array_equal(curve.solved, SOLVED)
    np.testing.assert_array_equal(curve.total, np.full(7, 24))
    np.testing.assert_array_equal(np.unique(curve.outcomes), [0, 0.5])


def test_samples_are_worth_what_the_variance_between_problems_leaves_of_them():
    rng, steps = np.random.default_rng(0), np.arange(1, 9)
    apart = rng.binomial(8, 0.3, size=(4000, 8))  # problems are alike: every sample counts
    assert ScoreCurve.from_outcomes(steps, apart, samples=8).worth[0] == pytest.approx(32_000, rel=0.05)
    same = 8 * rng.binomial(1, 0.3, size=(4000, 8))  # samples of a problem agree: none adds anything
    assert ScoreCurve.from_outcomes(steps, same, samples=8).worth[0] == 4000
    mixed = rng.binomial(8, rng.beta(1, 2, size=(4000, 1)), size=(4000, 8))
    between = np.var(rng.beta(1, 2, size=100_000))
    expected = 4000 * (1 / 3 * 2 / 3) / (between + (1 / 3 * 2 / 3 - between) / 8)
    assert ScoreCurve.from_outcomes(steps, mixed, samples=8).worth[0] == pytest.approx(expected, rel=0.05)


def test_one_answer_per_problem_is_worth_one():
    assert ScoreCurve.from_outcomes(STEPS, OUTCOMES).worth.tolist() == [12] * 7
    assert ScoreCurve.from_counts(STEPS, SOLVED, 12).worth.tolist() == [12] * 7


def test_seeds_of_a_table_are_runs_and_their_mean_is_the_curve(tmp_path):
    other = long_table().assign(passed=True)
    table = pd.concat([long_table().assign(seed=1), other.assign(seed=2)])
    curve = ScoreCurve.from_table(write(table, tmp_path / "seeds.csv"))
    assert len(curve.runs) == 2
    np.testing.assert_array_equal(curve.solved, SOLVED + 12)
    np.testing.assert_array_equal(curve.total, np.full(7, 24))
    np.testing.assert_array_equal(np.sort(curve.outcomes, axis=0)[::-1], (OUTCOMES + 1) / 2)
    other = write(
        table.replace({"problem": {"p0": "q0"}}).where(table["seed"] == 2, table), tmp_path / "q.csv"
    )
    with pytest.raises(InputError, match="problem 'p0' was asked of one of the seeds 1 and 2 alone"):
        ScoreCurve.from_table(other)


def test_counts_of_several_runs_are_worth_no_more_than_one():
    run = ScoreCurve.from_counts(STEPS, SOLVED, 12)
    curve = ScoreCurve.of_runs([run, run, run])
    assert curve.worth.tolist() == [12] * 7
    assert curve.total.tolist() == [36] * 7


def test_runs_that_do_not_match_are_refused():
    run, later = ScoreCurve.from_counts(STEPS, SOLVED, 12), ScoreCurve.from_counts(STEPS + 1, SOLVED, 12)
    with pytest.raises(InputError, match="not all runs were scored at step"):
        ScoreCurve.of_runs([run, later])
    with pytest.raises(InputError, match="one run was asked 20 problems and another 12"):
        ScoreCurve.of_runs([run, ScoreCurve.from_counts(STEPS, SOLVED, 20)])
    with pytest.raises(InputError, match="1 training runs"):
        ScoreCurve.of_runs([run])


def test_runs_since_a_step_are_cut_too():
    run = ScoreCurve.from_counts(STEPS, SOLVED, 12)
    since = ScoreCurve.of_runs([run, run]).since(10)
    assert [len(one.steps) for one in since.runs] == [6, 6]


def test_tokens_are_read_where_they_are_asked_for_or_alone(tmp_path):
    both = write(counts_table().assign(tokens=STEPS * 1000), tmp_path / "both.csv")
    assert ScoreCurve.from_table(both).unit == "step"
    assert ScoreCurve.from_table(both, x="tokens").steps.tolist() == (STEPS * 1000).tolist()
    alone = write(counts_table().rename(columns={"step": "tokens"}), tmp_path / "alone.csv")
    assert ScoreCurve.from_table(alone).unit == "tokens"
    with pytest.raises(InputError, match=r"'step'.*has tokens"):
        ScoreCurve.from_table(alone, x="step")
