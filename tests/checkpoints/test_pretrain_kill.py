"""Pretraining killed by SIGKILL, mid-write included, ends like the uninterrupted run, bit by bit.

One warmed process forks a child for every run, so that a kill costs no imports. The child counts what it does
to files and how many steps it takes, and kills itself at the n-th such event; where the event is the writing
of a tensor file, half of the file is there by then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
output = "{output}"
seed = 3
pivot = "python"
target = "php"
[model.scratch]
family = "gpt2"
n_layer = 1
n_embd = 16
n_head = 2
n_positions = 16
[tokenizer]
vocab_size = 280
[[sources]]
language = "python"
path = "python"
proportion = 0.25
[[sources]]
language = "php"
path = "php"
proportion = 0.75
max_tokens = 1500
[training]
steps = 12
batch_size = 4
sequence_length = 16
learning_rate = 1e-2
warmup_steps = 2
gradient_accumulation = 2
checkpoints = [0, 1, 4, 12]
resume_every = 3
threads = 1
"""


def write_sources(folder: Path) -> None:
    for name, ending, line in (
        ("python", "py", "x{0} = {0} + {1}\n"),
        ("php", "php", "$x{0} = {0} + {1};\n"),
    ):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            text = "".join(line.format(number, step) for step in range(20))
            (folder / name / f"{number}.{ending}").write_text(text)


class Bomb:
    """Counts the events of a run and kills the process at one of them."""

    def __init__(self, output: Path, at: int | None):
        self.output, self.at, self.seen = str(output), at, 0
        self.armed = True

    def event(self, half_write: Callable[[], None] | None = None) -> None:
        self.seen += 1
        if self.seen == self.at:
            if half_write is not None:
                half_write()
            os.kill(os.getpid(), signal.SIGKILL)

    def on_audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        writing = name == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writing or name in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")) and self.output in str(
            arguments[0]
        ):
            self.event()

    def half_written(self, save: Callable[..., None], position: int) -> Callable[..., None]:
        def saving(*arguments: Any, **options: Any) -> None:
            path = options["filename"] if "filename" in options else arguments[position]

            def half() -> None:
                self.armed = False
                save(*arguments, **options)
                os.truncate(path, os.path.getsize(path) // 2)

            self.event(half)
            save(*arguments, **options)

        return saving


def run(folder: Path, name: str, at: int | None) -> int | None:
    """Pretrain in a forked child; the number of events, or None if it was killed at one."""
    import random

    import numpy as np
    import torch
    from transformers import modeling_utils

    from babelscope.checkpoints import trainer
    from babelscope.checkpoints.pretrain import pretrain
    from babelscope.checkpoints.recipe import Recipe

    def noisy(model: Any, step: int) -> None:
        assert not model.training
        draws = (torch.rand(step + 1), np.random.rand(step + 1), random.random())  # noqa: NPY002, S311
        assert len(draws) == 3
        with (folder / f"{name}.calls").open("a") as calls:
            calls.write(f"{step}\n")

    recipe_file = folder / f"{name}.toml"
    recipe_file.write_text(RECIPE.format(output=name))
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return None
        assert status == 0, f"the run failed with {status}"
        return int((folder / f"{name}.events").read_text())
    try:
        bomb = Bomb(folder / name, at)
        sys.addaudithook(lambda event, arguments: bomb.armed and bomb.on_audit(event, arguments))
        torch.save = bomb.half_written(torch.save, 1)
        modeling_utils.safe_save_file = bomb.half_written(modeling_utils.safe_save_file, 1)
        training_step = trainer.SeriesTrainer.training_step

        def counted(*arguments: Any, **options: Any) -> Any:
            bomb.event()
            return training_step(*arguments, **options)

        trainer.SeriesTrainer.training_step = counted
        pretrain(Recipe.from_toml(recipe_file), on_checkpoint=noisy)
        (folder / f"{name}.events").write_text(str(bomb.seen))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a forked child must not return into the parent's code
        traceback.print_exc()
        os._exit(1)


def serve(folder: Path, number: int) -> None:
    """One uninterrupted run, and `number` that are killed at points spread over all its events."""
    import babelscope.checkpoints.pretrain  # noqa: F401 - before the first fork

    write_sources(folder)
    total = run(folder, "reference", None)
    assert total is not None
    points = [1 + round(index * (total - 1) / (number - 1)) for index in range(number)]
    for point in points:
        name = f"killed-{point}"
        assert run(folder, name, point) is None, f"the run outlived event {point} of {total}"
        if point % 2:
            run(folder, name, 40)  # and a second time while it is taken up
        assert run(folder, name, None) is not None
    (folder / "points.json").write_text(json.dumps({"points": points, "events": total}))


def state_of(run_folder: Path) -> dict[str, Any]:
    """All that must not depend on kills: every file of every checkpoint but the optimizer's, as bytes."""
    files = [path for path in sorted(run_folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(run_folder)): path.read_bytes()
        for path in files
        if path.suffix not in (".pt", ".pth") or path.parent.name == "checkpoint-12"
    }


@pytest.mark.parametrize(
    "number",
    [pytest.param(3, id="three kills"), pytest.param(24, id="twenty-four kills", marks=pytest.mark.slow)],
)
def test_a_killed_run_ends_in_the_same_bits_as_an_uninterrupted_one(number, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(number)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    points = json.loads((tmp_path / "points.json").read_text())["points"]
    assert len(set(points)) == number
    expected = state_of(tmp_path / "reference")
    assert [name for name in expected if name.endswith("model.safetensors")] == [
        f"checkpoint-{step}/model.safetensors" for step in (0, 1, 12, 4)
    ]
    for point in points:
        found = state_of(tmp_path / f"killed-{point}")
        assert found.keys() == expected.keys(), point
        different = [name for name in expected if found[name] != expected[name]]
        assert different == [], point
        calls = (tmp_path / f"killed-{point}.calls").read_text().split()
        assert set(calls) == {"0", "1", "4", "12"}, point


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
