"""Opening a directory of checkpoints: what is refused, what is left out, and what is said about it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from babelscope.checkpoints import agreement
from babelscope.checkpoints.runs import open_runs
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from tests.checkpoints.folders import write_checkpoint
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


def test_the_few_with_another_tokenizer_are_left_out_by_name(tmp_path):
    for step in (0, 10, 20, 30):
        write_checkpoint(tmp_path / f"step{step}", tokenizer="other" if step == 10 else "words", log=[])
    series = Series.open(tmp_path)
    assert series.steps == [0, 20, 30]
    assert [(f.step, f.kind) for f in series.findings] == [(10, "tokenizer drift")]


def test_a_checkpoint_without_a_tokenizer_shares_that_of_the_others(tmp_path):
    (write_checkpoint(tmp_path / "step0") / "tokenizer.json").unlink()
    write_checkpoint(tmp_path / "step10", log=[])
    series = Series.open(tmp_path)
    assert series.findings == ()
    assert series.tokenizer_hash
    assert series.described == tmp_path / "step10"


def test_a_binary_tokenizer_is_told_from_another(tmp_path):
    for step in (0, 10):
        (write_checkpoint(tmp_path / f"step{step}") / "tokenizer.model").write_bytes(b"\xff" + bytes([step]))
    with pytest.raises(InputError, match="step0 and step10 have different tokenizers"):
        Series.open(tmp_path)


def test_tokens_seen_are_those_recorded_else_those_of_the_name(tmp_path):
    write_checkpoint(tmp_path / "step0")
    write_checkpoint(tmp_path / "step10-tokens3M")
    recorded = write_checkpoint(tmp_path / "step20-tokens6M", log=[])
    (recorded / "babelscope.json").write_text(json.dumps({"tokens": {"python": 5_000_000, "php": 900_000}}))
    assert [checkpoint.tokens_seen for checkpoint in Series.open(tmp_path)] == [None, 3_000_000, 5_900_000]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_checkpoint_that_is_still_being_written_is_left_out(tmp_path, name):
    write_checkpoint(tmp_path / "checkpoint-0", log=[])
    (write_checkpoint(tmp_path / "checkpoint-10") / name).unlink()
    series = Series.open(tmp_path)
    assert series.steps == [0]
    assert [(f.step, f.kind) for f in series.findings] == [(10, "unreadable")]
    assert name in series.findings[0].detail


@pytest.mark.parametrize("name", ["config.json", "babelscope.json"])
@pytest.mark.parametrize("content", ["[]", "{", "\udcff"])
def test_a_checkpoint_with_nonsense_in_its_files_is_left_out(tmp_path, name, content):
    write_checkpoint(tmp_path / "checkpoint-0", log=[])
    file = write_checkpoint(tmp_path / "checkpoint-10") / name
    file.write_text(content, errors="surrogateescape")
    series = Series.open(tmp_path)
    assert [(f.step, f.kind) for f in series.findings] == [(10, "unreadable")]
    assert name in series.findings[0].detail


def test_a_checkpoint_that_may_not_be_read_is_left_out(tmp_path, monkeypatch):
    def denied(path):
        if path.name == "checkpoint-10":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    for step in (0, 10):
        write_checkpoint(tmp_path / f"checkpoint-{step}", log=[])
    read = agreement.tensors
    monkeypatch.setattr(agreement, "tensors", denied)
    series = Series.open(tmp_path)
    assert series.steps == [0]
    assert [(f.step, f.kind) for f in series.findings] == [(10, "unreadable")]
    assert "Permission denied" in series.findings[0].detail


def test_a_directory_with_nothing_usable_is_refused_with_the_reasons(tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    with pytest.raises(InputError, match=r"no usable checkpoint: checkpoint-10: has no model\.safetensors"):
        Series.open(tmp_path)


def test_opening_a_series_imports_no_torch(tmp_path):
    write_checkpoint(tmp_path / "step0", log=[{"step": 0, "loss": 1.0}])
    code = (
        "import sys; from babelscope.checkpoints.series import Series;"
        f"Series.open({str(tmp_path)!r}); assert not {{'torch', 'transformers', 'pandas'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_runs_side_by_side_are_named_by_their_folders(tmp_path):
    for seed in (0, 1):
        for step in (0, 10):
            write_checkpoint(tmp_path / f"seed{seed}" / f"step{step}", log=[])
    (tmp_path / "data").mkdir()
    runs = open_runs(tmp_path, pivot="python", target="php")
    assert {name: (run.steps, run.pivot) for name, run in runs.items()} == {
        "seed0": ([0, 10], "python"),
        "seed1": ([0, 10], "python"),
    }
    assert list(open_runs([tmp_path / "seed1", tmp_path / "seed0"])) == [
        str(tmp_path / "seed1"),
        str(tmp_path / "seed0"),
    ]


def test_runs_of_different_architectures_are_refused(tmp_path):
    write_checkpoint(tmp_path / "a" / "step0")
    write_checkpoint(tmp_path / "b" / "step0", width=3)
    with pytest.raises(InputError, match=r"a \(gpt2\) and b \(gpt2\) are different architectures"):
        open_runs(tmp_path)


def test_a_directory_without_runs_is_refused(tmp_path):
    write_checkpoint(tmp_path / "step0")
    with pytest.raises(InputError, match="holds no runs"):
        open_runs(tmp_path)
    with pytest.raises(InputError, match="nowhere is not a directory"):
        open_runs(tmp_path / "nowhere")


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


def test_a_lens_table_is_made_in_any_floating_type_and_in_no_other(make_run):
    series = Series.open(make_run(steps=(0,)))
    for dtype in ("float16", "bfloat16"):
        assert np.isfinite(series.lens_table("n = len", dtype=dtype)["probability"]).all()
    for dtype in ("int8", "float33"):
        with pytest.raises(InputError, match=f"no dtype '{dtype}'"):
            series.lens_table("n = len", dtype=dtype)
