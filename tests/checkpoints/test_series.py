"""Opening a directory of checkpoints: what is refused, what is left out, and what is said about it."""

from __future__ import annotations

import json

import pytest

from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from tests.conftest import make_model


def test_checkpoints_come_in_order_of_step_with_the_last_ones_history(make_run):
    series = Series.open(make_run(steps=(0, 100, 20)), pivot="python", target="php")
    assert series.steps == [0, 20, 100]
    assert [entry["step"] for entry in series.history] == [0, 100, 20]
    assert (series.pivot, series.target, series.findings) == ("python", "php", ())


def test_pivot_and_target_are_those_of_the_run_unless_given(make_run):
    run = make_run()
    (run / "run.json").write_text(json.dumps({"pivot": "python", "target": "go"}))
    assert Series.open(run).target == "go"
    assert Series.open(run, target="php").target == "php"


@pytest.mark.parametrize(
    ("make", "message"), [(False, "is not a directory"), (True, "holds no checkpoint-N")]
)
def test_a_missing_or_empty_directory_is_refused_by_name(tmp_path, make, message):
    path = tmp_path / "nothing"
    if make:
        path.mkdir()
    with pytest.raises(InputError, match=f"nothing {message}"):
        Series.open(path)


def test_different_architectures_in_one_series_are_refused(make_run):
    run = make_run(steps=(0,))
    make_model("llama").save_pretrained(run / "checkpoint-5")
    with pytest.raises(InputError, match=r"checkpoint-0 \(gpt2\) and checkpoint-5 \(llama\)"):
        Series.open(run)


def test_different_sizes_of_one_architecture_are_refused(make_run):
    run = make_run(steps=(0,))
    make_model("gpt2", n_layer=2).save_pretrained(run / "checkpoint-5")
    with pytest.raises(InputError, match="different architectures"):
        Series.open(run)


def test_different_tokenizers_in_one_series_are_refused(make_run):
    run = make_run(steps=(0, 10))
    file = run / "checkpoint-10" / "tokenizer.json"
    file.write_text(file.read_text().replace("<|endoftext|>", "<|end|>"))
    with pytest.raises(InputError, match="checkpoint-0 and checkpoint-10 have different tokenizers"):
        Series.open(run)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1000], "is truncated"),
        (lambda data: data[:4], "is truncated"),
        (lambda data: data[:8] + b"}" + data[9:], "corrupt header"),
        (lambda data: (2**60).to_bytes(8, "little") + data[8:], "shorter than its own header"),
        (lambda _: b"", "is truncated"),
    ],
)
def test_a_damaged_checkpoint_is_left_out_by_name(make_run, damage, words):
    run = make_run(steps=(0, 10, 20))
    file = run / "checkpoint-10" / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    series = Series.open(run)
    assert series.steps == [0, 20]
    (finding,) = series.findings
    assert (finding.step, finding.kind) == (10, "unreadable")
    assert words in finding.detail
    assert "checkpoint-10" in finding.detail


def test_a_missing_history_is_a_finding_and_not_an_error(make_run):
    run = make_run(steps=(0, 10))
    (run / "checkpoint-10" / "trainer_state.json").unlink()
    series = Series.open(run)
    assert series.steps == [0, 10]
    assert [f.kind for f in series.findings] == ["no history"]


def test_losses_that_are_not_numbers_are_left_out_of_the_history_by_step(make_run):
    run = make_run(steps=(0, 10))
    file = run / "checkpoint-10" / "trainer_state.json"
    file.write_text(file.read_text().replace("2.9", "NaN"))
    series = Series.open(run)
    assert [(f.step, f.kind) for f in series.findings] == [(10, "non-finite history")]
    assert all("loss" in entry or entry["step"] == 10 for entry in series.history)
