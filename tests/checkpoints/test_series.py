"""Opening a directory of checkpoints: what is refused, what is left out, and what is said about it."""

from __future__ import annotations

import json

import pytest
import torch

from babelscope.checkpoints.live import LiveModel
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.weights import Fingerprints, fingerprint
from babelscope.core.errors import InputError
from tests.conftest import FAMILY_CONFIGS, make_model


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


def test_a_fingerprint_is_of_the_weights_and_not_of_their_files(tmp_path):
    model = make_model("llama")
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").exists()
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "sharded")
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-4
    model.save_pretrained(tmp_path / "other")
    assert fingerprint(tmp_path / "other") != fingerprint(tmp_path / "one")


def test_fingerprints_are_computed_again_only_for_changed_files(tmp_path, monkeypatch):
    make_model("gpt2").save_pretrained(tmp_path / "a")
    first = Fingerprints(tmp_path / "cache.json").of(tmp_path / "a")
    monkeypatch.setattr("babelscope.checkpoints.weights.fingerprint", lambda _: "anew")
    assert Fingerprints(tmp_path / "cache.json").of(tmp_path / "a") == first
    make_model("gpt2", seed=1).save_pretrained(tmp_path / "a")
    assert Fingerprints(tmp_path / "cache.json").of(tmp_path / "a") == "anew"


@pytest.mark.parametrize("family", FAMILY_CONFIGS)
def test_swapping_weights_gives_the_logits_of_each_checkpoint(make_run, family):
    series = Series.open(make_run(steps=(0, 10), family=family))
    live = LiveModel(series)
    ids = torch.tensor([[1, 7, 250, 3]])
    for checkpoint in (*series, *reversed(series.checkpoints)):
        expected = make_model(family, seed=checkpoint.step)(ids).logits
        anatomy = live.at(checkpoint)
        torch.testing.assert_close(anatomy.model(ids).logits, expected, rtol=0, atol=0)
        assert not anatomy.model.training


def test_a_random_model_is_the_same_for_one_seed_and_disturbs_no_randomness(make_run):
    live = LiveModel(Series.open(make_run(steps=(0,))))
    ids = torch.tensor([[1, 7, 250, 3]])
    torch.manual_seed(5)
    one = live.at_random(0).model(ids).logits.clone()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    torch.testing.assert_close(live.at_random(0).model(ids).logits, one)
    assert not torch.allclose(live.at_random(1).model(ids).logits, one)
