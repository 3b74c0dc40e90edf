"""Pretraining: the run against a plain loop, its directory, and everything that may go wrong."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from babelscope.checkpoints import saving
from babelscope.checkpoints.material import build_model, heldout_file, mixed_rows, open_tokenizer
from babelscope.checkpoints.pretrain import plan, pretrain
from babelscope.checkpoints.recipe import Recipe
from babelscope.core.errors import InputError
from babelscope.corpora.token_files import open_tokens

STEPS, BATCH, LENGTH = 12, 4, 16
KEPT = [0, 1, 5, 12]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A small source of each of two languages."""
    folder = tmp_path_factory.mktemp("texts")
    for name, ending, line in (
        ("python", "py", "x{0} = {0} + {1}\n"),
        ("php", "php", "$x{0} = {0} + {1};\n"),
    ):
        (folder / name).mkdir()
        for number in range(30):
            text = "".join(line.format(number, step) for step in range(20))
            (folder / name / f"{number}.{ending}").write_text(text)
    return folder


def recipe_for(texts: Path, output: Path, *, model: dict[str, Any] | None = None, **training: Any) -> Recipe:
    gpt2 = {"family": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": LENGTH}
    return Recipe.parse(
        {
            "output": str(output),
            "pivot": "python",
            "target": "php",
            "model": {"scratch": gpt2} if model is None else model,
            "tokenizer": {"vocab_size": 280} if model is None else None,
            "sources": [
                {"language": "python", "path": str(texts / "python"), "proportion": 0.25},
                {"language": "php", "path": str(texts / "php"), "proportion": 0.75, "max_tokens": 1500},
            ],
            "training": {
                "steps": STEPS,
                "batch_size": BATCH,
                "sequence_length": LENGTH,
                "learning_rate": 1e-2,
                "checkpoints": KEPT,
                "threads": 1,
                **training,
            },
        },
        origin="recipe",
    )


@pytest.fixture(scope="module")
def run(texts, tmp_path_factory):
    """One finished run."""
    recipe = recipe_for(texts, tmp_path_factory.mktemp("runs") / "base")
    pretrain(recipe)
    return recipe


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoint-{step}" / "model.safetensors")


def read(folder: Path, step: int, name: str) -> dict[str, Any]:
    return json.loads((folder / f"checkpoint-{step}" / name).read_text())


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_equals_a_plain_training_loop(texts, tmp_path):
    quiet = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    shape = {"family": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": LENGTH, **quiet}
    document = recipe_for(texts, tmp_path, schedule="constant", warmup_steps=4, weight_decay=0.1).model_dump()
    recipe = Recipe.parse({**document, "model": {"scratch": shape}}, origin="recipe")
    pretrain(recipe)

    model = build_model(recipe, open_tokenizer(recipe), checkpoint=None).train()
    assert same(weights(tmp_path, 0), {n: w for n, w in model.state_dict().items() if n != "lm_head.weight"})
    matrices = [p for n, p in model.named_parameters() if not (n.endswith("bias") or ".ln_" in n)]
    others = [p for n, p in model.named_parameters() if n.endswith("bias") or ".ln_" in n]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    rows, losses, by_language = mixed_rows(recipe), [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, step / 4)
        batch = [rows[index] for index in range(step * BATCH, (step + 1) * BATCH)]
        tokens = torch.as_tensor(np.stack([row for _, row in batch]))
        logits = model(input_ids=tokens).logits[:, :-1]
        each = cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)
        each.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(each.mean().item())
        php = [loss.item() for loss, (language, _) in zip(each, batch, strict=True) if language == "php"]
        by_language.append(np.mean(php))

    for name, trained in weights(tmp_path, STEPS).items():
        torch.testing.assert_close(trained, model.state_dict()[name], rtol=1e-4, atol=1e-4)
    history = read(tmp_path, STEPS, "trainer_state.json")["log_history"]
    assert [entry["step"] for entry in history] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([entry["loss"] for entry in history], losses, rtol=1e-4)
    np.testing.assert_allclose([entry["loss_php"] for entry in history], by_language, rtol=1e-4)
    np.testing.assert_allclose(
        [entry["learning_rate"] for entry in history][:5], [0, 2.5e-3, 5e-3, 7.5e-3, 1e-2]
    )


def test_the_directory_holds_what_a_reader_needs_and_no_more(run):
    folder = run.output
    assert steps_in(folder) == KEPT
    document = json.loads((folder / "run.json").read_text())
    assert (document["pivot"], document["target"]) == ("python", "php")
    assert document["languages"] == ["python", "php"]
    assert document["finished"]
    for language, name in document["heldout"].items():
        assert folder / name == heldout_file(run, language)
    for step in KEPT:
        names = {path.name for path in (folder / f"checkpoint-{step}").iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer.json", "trainer_state.json"} <= names
        assert "training_args.bin" not in names
        assert ("optimizer.pt" in names) == (step == STEPS)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    tokenizers = {(folder / f"checkpoint-{step}/tokenizer.json").read_bytes() for step in KEPT}
    assert len(tokenizers) == 1


def test_achieved_tokens_are_those_of_the_rows_and_in_proportion(run):
    for step in KEPT:
        marker = read(run.output, step, "babelscope.json")
        assert (marker["step"], marker["rows"], marker["transient"]) == (step, step * BATCH, False)
        assert sum(marker["tokens"].values()) == step * BATCH * LENGTH
        assert abs(marker["tokens"]["php"] - 0.75 * step * BATCH * LENGTH) <= 1.5 * LENGTH
    assert marker["tokens"] == {"python": 12 * LENGTH, "php": 36 * LENGTH}
    unique = len(open_tokens(run.output / "data" / "php.tokens"))
    assert unique == 1500
    assert marker["epochs"]["php"] == 36 / (1500 // LENGTH)


def test_the_learning_rate_beside_a_checkpoint_is_that_of_its_step(run):
    for step in KEPT[1:]:
        history = read(run.output, step, "trainer_state.json")["log_history"]
        assert history[-1]["step"] == step
        assert read(run.output, step, "babelscope.json")["learning_rate"] == history[-1]["learning_rate"]
    assert read(run.output, 0, "babelscope.json")["learning_rate"] is None


def test_held_out_text_is_in_no_row(run):
    tokenizer = open_tokenizer(run)
    for language in ("python", "php"):
        lines = heldout_file(run, language).read_text().splitlines()
        assert lines
        trained = tokenizer.decode(open_tokens(run.output / "data" / f"{language}.tokens").tolist())
        assert not any(json.loads(line)["text"] in trained for line in lines)


def test_the_loss_falls(run):
    history = read(run.output, STEPS, "trainer_state.json")["log_history"]
    assert history[-1]["loss"] < history[0]["loss"] - 0.5
    assert {"loss_python", "loss_php"} <= {key for entry in history for key in entry}


def test_a_finished_run_is_left_as_it_is_and_says_so(run, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.output.rglob("*")}
    assert pretrain(run) == run.output
    assert {path: path.stat().st_mtime_ns for path in run.output.rglob("*")} == before
    assert "nothing to do" in capsys.readouterr().err.replace("\n", " ")


def test_a_continuation_begins_with_the_weights_and_tokenizer_it_continues(run, texts, tmp_path):
    start = run.output / "checkpoint-5"
    recipe = recipe_for(texts, tmp_path / "more", model={"start": str(start)}, steps=2, checkpoints=2)
    pretrain(recipe)
    assert steps_in(recipe.output) == [0, 2]
    assert same(weights(recipe.output, 0), weights(run.output, 5))
    assert not same(weights(recipe.output, 2), weights(run.output, 5))
    text = "$x1 = 1 + 2;"
    assert open_tokenizer(recipe)(text)["input_ids"] == open_tokenizer(run)(text)["input_ids"]


def test_the_hook_sees_every_kept_checkpoint_and_training_does_not_notice(run, texts, tmp_path):
    seen = []

    def hook(model, step):
        assert not model.training
        assert (tmp_path / f"checkpoint-{step}" / "babelscope.json").exists()
        assert same(
            weights(tmp_path, step), {n: w for n, w in model.state_dict().items() if n != "lm_head.weight"}
        )
        seen.append((step, torch.rand(3), np.random.rand(3), random.random()))  # noqa: NPY002, S311

    pretrain(recipe_for(texts, tmp_path), on_checkpoint=hook)
    assert [step for step, *_ in seen] == KEPT
    assert same(weights(tmp_path, STEPS), weights(run.output, STEPS))


def test_accumulating_gradients_changes_nothing_but_rounding(texts, tmp_path):
    quiet = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    shape = {"family": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": LENGTH, **quiet}
    ends = []
    for parts in (1, 4):
        recipe = recipe_for(texts, tmp_path / str(parts), gradient_accumulation=parts)
        pretrain(Recipe.parse({**recipe.model_dump(), "model": {"scratch": shape}}, origin="recipe"))
        ends.append(weights(recipe.output, STEPS))
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-3, atol=1e-4)


class StoppedError(RuntimeError):
    pass


def stop_at(step):
    def hook(model, at):
        if at == step:
            raise StoppedError

    return hook


def test_an_interrupted_run_is_taken_up_and_ends_in_the_same_bits(run, texts, tmp_path):
    recipe = recipe_for(texts, tmp_path)
    with pytest.raises(StoppedError):
        pretrain(recipe, on_checkpoint=stop_at(5))
    assert steps_in(tmp_path) == [0, 1, 5]
    with pytest.raises(InputError, match="unfinished run; resume it"):
        pretrain(recipe, resume=False)
    seen = []
    pretrain(recipe, on_checkpoint=lambda _, step: seen.append(step))
    assert seen == [5, 12]
    for step in KEPT:
        assert same(weights(tmp_path, step), weights(run.output, step))
        assert read(tmp_path, step, "trainer_state.json") == read(run.output, step, "trainer_state.json")


def test_a_resume_point_lasts_until_the_next_one_or_the_next_checkpoint(texts, tmp_path, monkeypatch):
    found = {}
    publish = saving.RunFolder.publish

    def spy(self, step, marker, *, transient):
        place = publish(self, step, marker, transient=transient)
        found[step] = sorted(path.name for path in (tmp_path / ".resume").glob("*"))
        return place

    monkeypatch.setattr(saving.RunFolder, "publish", spy)
    pretrain(recipe_for(texts, tmp_path, resume_every=2, checkpoints=[5, 12]))
    assert found == {
        0: [],
        **{2: ["checkpoint-2"], 4: ["checkpoint-4"], 5: []},
        **{6: ["checkpoint-6"], 8: ["checkpoint-8"], 10: ["checkpoint-10"], 12: []},
    }
    assert steps_in(tmp_path) == [0, 5, 12]


def test_resume_points_come_by_time_when_no_steps_are_given(texts, tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 20))  # seconds: every look at the clock is 20 later than the one before
    monkeypatch.setattr(saving.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(saving.SaveSeries, "RATIO", 0.0)
    points = []
    publish = saving.RunFolder.publish

    def spy(self, step, marker, *, transient):
        points.extend([step] if transient else [])
        return publish(self, step, marker, transient=transient)

    monkeypatch.setattr(saving.RunFolder, "publish", spy)
    pretrain(recipe_for(texts, tmp_path, checkpoints=[12]))
    assert points
    assert steps_in(tmp_path) == [0, 12]


def test_changed_settings_are_named_and_the_run_is_left_alone(run, texts):
    before = sorted(path.name for path in run.output.rglob("*"))
    other = recipe_for(texts, run.output, learning_rate=2e-2, steps=20)
    with pytest.raises(InputError, match=r"learning_rate \(was 0\.01, is 0\.02\), training\.steps \(was 12"):
        pretrain(other)
    assert sorted(path.name for path in run.output.rglob("*")) == before
    pretrain(recipe_for(texts, run.output, threads=2))  # how fast is no part of what


def test_a_run_recorded_before_a_setting_existed_had_its_default(run, texts):
    before = (run.output / "run.json").read_text()
    document = json.loads(before)
    for source in document["recipe"]["sources"]:
        del source["until"]
    (run.output / "run.json").write_text(json.dumps(document))
    pretrain(recipe_for(texts, run.output))
    (run.output / "run.json").write_text(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "nowhere"}, r"source '.*nowhere' does not exist"),
        ({"scratch": {"family": "gpt9"}}, r"family = 'gpt9' is unknown"),
        ({"scratch": {"family": "gpt2", "n_layr": 2}}, r"gpt2 has no configuration field \['n_layr'\]"),
        ({"scratch": {"family": "gpt2", "n_positions": 8}}, r"sequence_length = 16 exceeds the model's 8"),
        ({"start": "no/such/model"}, r"start = 'no/such/model' is neither a checkpoint directory nor"),
        ({"gradient_accumulation": 3}, r"batch_size = 4 cannot be divided into 3 equal parts"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_written(texts, tmp_path, change, message):
    document = recipe_for(texts, tmp_path / "run").model_dump()
    if "path" in change:
        document["sources"][1]["path"] = change["path"]
    elif "gradient_accumulation" in change:
        document["training"].update(change)
    else:
        document["model"] = {"start": None, "scratch": None, **change}
    with pytest.raises(InputError, match=message):
        pretrain(Recipe.parse(document, origin="recipe"))
    assert not (tmp_path / "run").exists()


def test_checkpoints_of_something_else_are_not_touched(texts, tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    with pytest.raises(InputError, match="checkpoints of something else"):
        pretrain(recipe_for(texts, tmp_path))
    assert steps_in(tmp_path) == [10]


def test_before_the_first_checkpoint_any_setting_may_change(run, texts, tmp_path):
    document = recipe_for(texts, tmp_path).model_dump()
    for size in (300, 280):
        recipe = Recipe.parse({**document, "tokenizer": {"vocab_size": size}}, origin="recipe")
        assert len(open_tokenizer(recipe)) == size
    pretrain(recipe)
    assert same(weights(tmp_path, STEPS), weights(run.output, STEPS))


def test_a_run_is_taken_up_without_its_sources(run, texts, tmp_path):
    shutil.copytree(texts, tmp_path / "texts")
    recipe = recipe_for(tmp_path / "texts", tmp_path / "run")
    with pytest.raises(StoppedError):
        pretrain(recipe, on_checkpoint=stop_at(1))
    shutil.rmtree(tmp_path / "texts")
    pretrain(recipe)
    assert same(weights(recipe.output, STEPS), weights(run.output, STEPS))


def test_a_start_with_fewer_embeddings_than_tokens_is_refused(run, texts, tmp_path):
    document = recipe_for(texts, tmp_path, model={"start": str(run.output / "checkpoint-0")}).model_dump()
    larger = Recipe.parse({**document, "tokenizer": {"vocab_size": 400}}, origin="recipe")
    with pytest.raises(InputError, match="the model has 280 embeddings, the tokenizer 309 tokens"):
        pretrain(larger)


def test_a_truncated_start_is_named(run, texts, tmp_path):
    shutil.copytree(run.output / "checkpoint-5", tmp_path / "start")
    os.truncate(tmp_path / "start" / "model.safetensors", 1000)
    with pytest.raises(InputError, match=r"start' has no weights that can be used"):
        pretrain(recipe_for(texts, tmp_path / "run", model={"start": str(tmp_path / "start")}))


def test_a_diverging_run_stops_with_the_step_and_saves_no_broken_weights(texts, tmp_path):
    with pytest.raises(InputError, match=r"diverged at step \d+: .* lower learning_rate = 1e\+30"):
        pretrain(recipe_for(texts, tmp_path, learning_rate=1e30, schedule="constant"))
    for step in steps_in(tmp_path):
        assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path, step).values())
    assert not (tmp_path / ".partial").exists() or not steps_in(tmp_path / ".partial")


def test_too_small_a_disk_is_refused_before_training(texts, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: full)
    with pytest.raises(InputError, match=r"needs \d+ MB and has 0 MB free"):
        pretrain(recipe_for(texts, tmp_path))
    assert steps_in(tmp_path) == []
    monkeypatch.undo()
    pretrain(recipe_for(texts, tmp_path, checkpoints=2))  # as the message advises
    assert steps_in(tmp_path) == [0, STEPS]


@pytest.mark.parametrize(
    ("writer", "failure"),
    [
        ("weights", SafetensorError("I/O error: No space left on device (os error 28)")),
        ("optimizer", RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")),
        ("optimizer", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_disk_that_fills_up_spoils_nothing_and_the_run_goes_on_later(
    run, texts, tmp_path, monkeypatch, writer, failure
):
    calls = []

    def full(original):
        def save(*arguments, **options):
            calls.append(1)
            if len(calls) == 3:
                original(*arguments, **options)  # half of it, say
                raise failure
            return original(*arguments, **options)

        return save

    with monkeypatch.context() as patched:
        if writer == "weights":
            from transformers import modeling_utils

            patched.setattr(modeling_utils, "safe_save_file", full(modeling_utils.safe_save_file))
        else:
            patched.setattr(torch, "save", full(torch.save))
        with pytest.raises(InputError, match="is full; make room and run the same command again"):
            pretrain(recipe_for(texts, tmp_path))
    assert not (tmp_path / ".partial").exists()
    assert all((tmp_path / f"checkpoint-{step}" / "babelscope.json").exists() for step in steps_in(tmp_path))
    pretrain(recipe_for(texts, tmp_path))
    assert same(weights(tmp_path, STEPS), weights(run.output, STEPS))


def test_a_newest_checkpoint_without_optimizer_is_not_silently_restarted(texts, tmp_path):
    with pytest.raises(StoppedError):
        pretrain(recipe_for(texts, tmp_path), on_checkpoint=stop_at(5))
    (tmp_path / "checkpoint-5" / "optimizer.pt").unlink()
    with pytest.raises(InputError, match=r"checkpoint-5 has no optimizer\.pt"):
        pretrain(recipe_for(texts, tmp_path))


def test_the_plan_says_what_the_run_will_be_and_writes_nothing(run, texts, tmp_path):
    planned = plan(recipe_for(texts, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert (planned["steps"], planned["checkpoints"]) == (STEPS, KEPT)
    assert planned["processed_tokens"] == read(run.output, STEPS, "babelscope.json")["tokens"]
    assert planned["tokens"] == STEPS * BATCH * LENGTH
    parameters = sum(tensor.numel() for tensor in weights(run.output, 0).values())
    assert planned["parameters"] == parameters
    on_disk = sum(path.stat().st_size for path in run.output.glob("checkpoint-*/*"))
    assert on_disk <= planned["bytes"] <= on_disk + (len(KEPT) + 2) * 300_000  # room for a longer history
    exact = len(open_tokens(run.output / "data" / "python.tokens"))
    assert planned["unique_tokens"]["python"] == pytest.approx(exact, rel=0.1)
    assert planned["unique_tokens"]["php"] == 1500
    assert 0 < planned["seconds"] < 60
    assert plan(run)["steps_done"] == STEPS


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(run, texts, tmp_path):
    quiet = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    shape = {"family": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": LENGTH, **quiet}

    def recipe(name):
        document = recipe_for(texts, tmp_path / name, resume_every=2).model_dump(mode="json")
        return {**document, "model": {"start": None, "scratch": shape}}

    pretrain(Recipe.parse(recipe("one"), origin="recipe"))
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "from babelscope.checkpoints.pretrain import pretrain\n"
        "from babelscope.checkpoints.recipe import Recipe\n"
        "pretrain(Recipe.parse(json.load(open(sys.argv[1])), origin='recipe'))\n"
    )
    (tmp_path / "two.json").write_text(json.dumps(recipe("two")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    done = subprocess.run(
        [*launcher, str(script), str(tmp_path / "two.json")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert steps_in(tmp_path / "two") == KEPT
    for name, tensor in weights(tmp_path / "one", STEPS).items():
        torch.testing.assert_close(weights(tmp_path / "two", STEPS)[name], tensor, rtol=1e-3, atol=1e-4)
    one, two = (read(tmp_path / name, STEPS, "trainer_state.json")["log_history"] for name in ("one", "two"))
    np.testing.assert_allclose(
        [entry["loss_php"] for entry in two], [entry["loss_php"] for entry in one], rtol=1e-3
    )
