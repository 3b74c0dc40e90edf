"""Other evaluators' results, in the formats that they write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from babelscope.checkpoints.evaluations import Score, read_evaluations
from babelscope.checkpoints.series import Series
from tests.checkpoints.folders import write_checkpoint

# As lm-evaluation-harness 0.4 writes it: metric and filter in the key, "N/A", counters without a filter.
HARNESS = {
    "results": {
        "humaneval": {"alias": "humaneval", "pass@1,create_test": 0.25, "pass@1_stderr,create_test": 0.03},
        "lambada": {
            "alias": "lambada",
            "acc,none": 0.5,
            "acc_stderr,none": 0.01,
            "perplexity,none": 20.0,
            "perplexity_stderr,none": "N/A",
            "samples": 5153,
        },
    },
    "groups": {"all": {"acc,none": 0.5}},
    "n-samples": {"lambada": {"original": 5153, "effective": 5153}},
    "config": {"model": "hf", "model_args": "pretrained=EleutherAI/pythia-70m,dtype=float32"},
}
# As releases before 0.4 did, and the published results of Pythia.
OLD = {"results": {"piqa": {"acc": 0.6, "acc_stderr": 0.01}}, "config": {"model": "hf-causal"}}
BIGCODE = {
    "humaneval": {"pass@1": 0.19, "pass@10": 0.34},
    "config": {"model": "bigcode/starcoder2-3b", "revision": None, "n_samples": 50, "temperature": 0.2},
}
HARNESS_SCORES = {
    ("humaneval", "pass@1,create_test", 0.25, 0.03),
    ("lambada", "acc", 0.5, 0.01),
    ("lambada", "perplexity", 20.0, None),
}


def write(file: Path, document: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def plain(scores: list[Score]) -> set[tuple[str, str, float, float | None]]:
    return {(s.task, s.metric, s.value, None if math.isnan(s.stderr) else s.stderr) for s in scores}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (HARNESS, HARNESS_SCORES),
        (OLD, {("piqa", "acc", 0.6, 0.01)}),
        (BIGCODE, {("humaneval", "pass@1", 0.19, None), ("humaneval", "pass@10", 0.34, None)}),
    ],
)
def test_each_format_gives_its_metrics_and_nothing_else(tmp_path, document, expected):
    write(tmp_path / "checkpoint-10" / "results_2026-01-01T00-00-00.json", document)
    scores, findings = read_evaluations(tmp_path)
    assert plain(scores) == expected
    assert {score.step for score in scores} == {10}
    assert findings == []


@pytest.mark.parametrize(
    "path",
    [
        "checkpoint-10/results_2026-01-01T00-00-00.123.json",
        "checkpoint-10/lm_eval/__runs__php__checkpoint-10/results_2026-01-01.json",
        "results/__runs__php__checkpoint-10/results_2026-01-01.json",
        "evals/step10_2026-01-01.json",
        "70m_step10.json",
    ],
)
def test_the_step_is_what_the_path_says(tmp_path, path):
    write(tmp_path / path, HARNESS)
    scores, findings = read_evaluations(tmp_path)
    assert {(score.step, score.source) for score in scores} == {(10, path)}
    assert findings == []


@pytest.mark.parametrize(
    "config",
    [
        {"model_args": "pretrained=runs/step5/checkpoint-10,dtype=float32"},
        {"model_args": {"pretrained": "EleutherAI/pythia-70m", "revision": "step10"}},
        {"model_args": "pretrained=runs/php/checkpoint-99,peft=adapters/checkpoint-10"},
        {"model": "EleutherAI/pythia-70m", "revision": "step10"},
        {"model_args": "pretrained=x", "model_revision": "step10"},
    ],
)
def test_the_step_is_what_the_evaluator_recorded(tmp_path, config):
    write(tmp_path / "eval" / "results.json", HARNESS | {"config": config})
    scores, _ = read_evaluations(tmp_path)
    assert {score.step for score in scores} == {10}


def test_a_file_that_records_another_step_than_its_place_is_left_out(tmp_path):
    document = HARNESS | {"config": {"model_args": "pretrained=runs/checkpoint-20"}}
    write(tmp_path / "checkpoint-10" / "results.json", document)
    scores, (finding,) = read_evaluations(tmp_path)
    assert scores == []
    assert (finding.step, finding.kind) == (10, "evaluation of another step")


def test_a_file_of_no_step_is_a_finding(tmp_path):
    write(tmp_path / "results.json", HARNESS)
    scores, (finding,) = read_evaluations(tmp_path)
    assert (scores, finding.step, finding.kind) == ([], None, "evaluation of no step")


def test_of_two_evaluations_of_one_thing_the_later_counts(tmp_path):
    later = {"results": {"piqa": {"acc,none": 0.7}}, "date": 200.0}
    earlier = {"results": {"piqa": {"acc,none": 0.1}, "sciq": {"acc,none": 0.2}}, "date": 100.0}
    write(tmp_path / "checkpoint-10" / "results_a.json", later)
    write(tmp_path / "checkpoint-10" / "results_b.json", earlier)
    scores, _ = read_evaluations(tmp_path)
    assert [(score.task, score.value) for score in scores] == [("piqa", 0.7), ("sciq", 0.2)]


def test_scores_that_are_not_numbers_are_left_out_with_a_finding(tmp_path):
    document = {"results": {"piqa": {"acc,none": float("nan"), "ppl,none": 3.0}}}
    write(tmp_path / "checkpoint-10" / "results.json", document)
    scores, (finding,) = read_evaluations(tmp_path)
    assert [score.metric for score in scores] == ["ppl"]
    assert (finding.step, finding.kind) == (10, "non-finite score")


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "results.json").write_text("{")
    scores, (finding,) = read_evaluations(tmp_path)
    assert (scores, finding.step, finding.kind) == ([], 10, "unread evaluation")


@pytest.mark.parametrize("document", [[], 3, {}, {"results": [1]}, {"eval_loss": 2.5}, {"results": {"x": 1}}])
def test_other_documents_of_such_names_are_passed_over(tmp_path, document):
    write(tmp_path / "checkpoint-10" / "eval_results.json", document)
    assert read_evaluations(tmp_path) == ([], [])


def test_a_series_has_one_table_of_them(tmp_path):
    for step in (20, 3):
        folder = write_checkpoint(tmp_path / f"checkpoint-{step}", log=[])
        write(folder / "evaluation_results.json", BIGCODE)
    table = Series.open(tmp_path).evaluations
    assert list(table.columns) == ["step", "task", "metric", "value", "stderr", "source"]
    assert table["step"].tolist() == [3, 3, 20, 20]
    assert table.pivot_table(index="step", columns="metric", values="value").loc[20, "pass@10"] == 0.34


def test_a_series_without_any_has_an_empty_table(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-3", log=[])
    table = Series.open(tmp_path).evaluations
    assert (len(table), list(table.columns)) == (0, list(Score._fields))
