"""What a run logged, from each place that it is logged to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from transformers.integrations.integration_utils import rewrite_logs

from babelscope.checkpoints.history import read_csv, read_jsonl, read_tensorboard
from babelscope.checkpoints.series import Series
from tests.checkpoints.folders import write_checkpoint

LOG = [{"step": 5, "loss": 3.0}, {"step": 10, "loss": 2.5, "learning_rate": 1e-3}]


def lines(file: Path, *records: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def kinds(series: Series) -> list[tuple[int | None, str]]:
    return [(finding.step, finding.kind) for finding in series.findings]


@pytest.fixture
def run(tmp_path) -> Path:
    """Two checkpoints without any log."""
    for step in (0, 10):
        write_checkpoint(tmp_path / "run" / f"checkpoint-{step}")
    return tmp_path / "run"


def test_the_log_is_that_of_the_last_checkpoint(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-5", log=LOG[:1], global_step=5)
    write_checkpoint(tmp_path / "checkpoint-10", log=LOG, global_step=10)
    series = Series.open(tmp_path)
    assert list(series.history) == LOG
    assert series.findings == ()


def test_a_run_that_logged_nothing_has_one_finding(run):
    series = Series.open(run)
    assert series.history == ()
    assert kinds(series) == [(10, "no history")]


def test_a_log_that_is_still_empty_is_no_finding(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-0", log=[], global_step=0)
    series = Series.open(tmp_path)
    assert (series.history, series.findings) == ((), ())


def test_a_last_checkpoint_without_a_log_leaves_that_of_the_one_before(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-5", log=LOG[:1], global_step=5)
    write_checkpoint(tmp_path / "checkpoint-10")
    series = Series.open(tmp_path)
    assert list(series.history) == LOG[:1]
    assert kinds(series) == [(10, "no history")]


@pytest.mark.parametrize("state", ["{", "[]", '{"log_history": 3}', '{"log_history": [3]}', "{}"])
def test_a_state_that_holds_no_log_is_a_finding(tmp_path, state):
    write_checkpoint(tmp_path / "checkpoint-5", log=LOG[:1], global_step=5)
    (write_checkpoint(tmp_path / "checkpoint-10") / "trainer_state.json").write_text(state)
    series = Series.open(tmp_path)
    assert list(series.history) == LOG[:1]
    assert kinds(series) == [(10, "no history")]


def test_a_log_that_belongs_to_another_step_is_a_finding_and_not_used(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-5", log=LOG[:1], global_step=5)
    write_checkpoint(tmp_path / "checkpoint-10", log=[{"step": 700, "loss": 0.1}], global_step=700)
    series = Series.open(tmp_path)
    assert list(series.history) == LOG[:1]
    assert kinds(series) == [(10, "history of another step")]
    assert "checkpoint-10/trainer_state.json is that of step 700" in series.findings[0].detail


def test_steps_past_the_last_checkpoint_are_left_out_with_one_finding(tmp_path):
    beyond = [{"step": 20, "loss": 2.0}, {"step": 30, "loss": 1.9}]
    write_checkpoint(tmp_path / "checkpoint-10", log=LOG + beyond, global_step=10)
    series = Series.open(tmp_path)
    assert list(series.history) == LOG
    assert kinds(series) == [(10, "history past the end")]
    assert "goes on to step 30" in series.findings[0].detail


def test_many_losses_that_are_not_numbers_are_one_finding(tmp_path):
    diverged = [{"step": step, "loss": float("nan"), "learning_rate": 1.0} for step in range(3, 9)]
    write_checkpoint(tmp_path / "checkpoint-10", log=diverged, global_step=10)
    series = Series.open(tmp_path)
    assert list(series.history) == [{"step": step, "learning_rate": 1.0} for step in range(3, 9)]
    assert kinds(series) == [(3, "non-finite history")]
    assert "loss at 6 steps from 3 to 8" in series.findings[0].detail


@pytest.mark.parametrize("name", ["log.jsonl", "logs/log.jsonl", "runs/log.jsonl", "runs/today/log.jsonl"])
def test_json_lines_beside_the_checkpoints_are_read(run, name):
    lines(run / name, {"config": {"lr": 1}}, *LOG)
    series = Series.open(run)
    assert list(series.history) == LOG
    assert series.findings == ()


def test_only_numbers_are_kept_and_a_half_written_line_is_passed_over(tmp_path):
    file = lines(tmp_path / "log.jsonl", {"global_step": 5.0, "loss": 3, "note": "x", "ok": True, "n": None})
    file.write_text(file.read_text() + '{"global_step": 6, "lo')
    assert read_jsonl(file) == [{"step": 5, "loss": 3}]


def test_text_that_is_no_log_is_not_taken_for_one(run):
    lines(run / "texts.jsonl", *({"text": f"line {n}"} for n in range(50)), {"step": 3, "loss": 1.0})
    (run / "prices.csv").write_text("day,price\n1,2\n")
    assert kinds(Series.open(run)) == [(10, "no history")]


def test_a_table_gives_numbers_and_an_empty_cell_was_not_logged(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss,eval_loss,note\n5,3.0,,a\n10,,2.5,\nx,1,1,\n11,nan,2,\n")
    rows = read_csv(file)
    assert rows[:2] == [{"step": 5, "loss": 3.0}, {"step": 10, "eval_loss": 2.5}]
    assert [row["step"] for row in rows] == [5, 10, 11]
    assert rows[2]["loss"] != rows[2]["loss"]  # NaN was logged; it is for `read_history` to report


def test_a_second_source_adds_what_the_first_does_not_say(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-10", log=LOG, global_step=10)
    (tmp_path / "scores.csv").write_text("step,loss,pass@1\n5,9.0,0.1\n7,8.0,0.2\n")
    series = Series.open(tmp_path)
    assert list(series.history) == [*LOG, {"step": 5, "pass@1": 0.1}, {"step": 7, "loss": 8.0, "pass@1": 0.2}]


def test_an_unreadable_log_is_a_finding(run):
    (run / "log.csv").mkdir()
    assert kinds(Series.open(run)) == [(None, "unread history"), (10, "no history")]


def events(folder: Path, scalars: list[dict[str, float]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for row in scalars:
        values = [Summary.Value(tag=tag, simple_value=x) for tag, x in row.items() if tag != "step"]
        writer.add_event(Event(step=int(row["step"]), summary=Summary(value=values)))
    writer.close()


def test_event_files_give_the_names_that_the_trainer_logged(run):
    logged = {"loss": 2.5, "learning_rate": 0.5, "eval_loss": 2.25, "test_score": 0.125}
    events(run / "runs" / "host", [{"step": 5} | rewrite_logs(logged), {"step": 10, "mine/score": 0.75}])
    series = Series.open(run)
    assert list(series.history) == [{"step": 5} | logged, {"step": 10, "mine/score": 0.75}]
    assert series.findings == ()


def test_every_event_is_read_and_not_a_sample(tmp_path):
    events(tmp_path, [{"step": step, "train/loss": step} for step in range(10_100)])
    (file,) = tmp_path.iterdir()
    assert read_tensorboard(file) == [{"step": step, "loss": step} for step in range(10_100)]


def test_event_files_are_not_read_where_there_is_another_log(run):
    (run / "events.out.tfevents.1").write_bytes(b"nonsense")
    lines(run / "log.jsonl", *LOG)
    assert Series.open(run).findings == ()


def test_event_files_without_the_reader_say_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    (run / "events.out.tfevents.1").touch()
    first, second = Series.open(run).findings
    assert (first.kind, second.kind) == ("unread history", "no history")
    assert "install babelscope[tensorboard]" in first.detail
