"""Pretraining killed by SIGKILL, mid-write included, ends like the uninterrupted run, bit by bit.

The child counts what it does to files and how many steps it takes, and kills itself at the n-th such event;
where the event is the writing of a tensor file, half of the file is there by then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.killing import Bomb, in_child, spread

ROOT = Path(__file__).parents[2]
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


def run(folder: Path, name: str, at: int | None) -> int | None:
    """Pretrain in a forked child; the number of events, or None if it was killed at one."""
    recipe_file = folder / f"{name}.toml"
    recipe_file.write_text(RECIPE.format(output=name))

    def work() -> int:
        import random

        import numpy as np
        import torch
        from transformers import modeling_utils

        from babelscope.checkpoints.pretrain import pretrain
        from babelscope.checkpoints.recipe import Recipe
        from babelscope.checkpoints.trainer import SeriesTrainer

        bomb = Bomb(folder / name, at)
        tensor_writes: list[int] = []

        def recorded(save: Callable[..., Any]) -> Callable[..., Any]:
            deadly = bomb.half_written(save, lambda _, path, **__: path)

            def saving(*arguments: Any, **options: Any) -> Any:
                tensor_writes.append(bomb.seen + 1)
                return deadly(*arguments, **options)

            return saving

        def counted(step: Callable[..., Any]) -> Callable[..., Any]:
            def stepping(*arguments: Any, **options: Any) -> Any:
                bomb.event()
                return step(*arguments, **options)

            return stepping

        torch.save = recorded(torch.save)
        modeling_utils.safe_save_file = recorded(modeling_utils.safe_save_file)
        SeriesTrainer.training_step = counted(SeriesTrainer.training_step)

        def noisy(model: Any, step: int) -> None:
            assert not model.training
            draws = (torch.rand(step + 1), np.random.rand(step + 1), random.random())  # noqa: NPY002, S311
            assert len(draws) == 3
            with (folder / f"{name}.calls").open("a") as calls:
                calls.write(f"{step}\n")

        pretrain(Recipe.from_toml(recipe_file), on_checkpoint=noisy)
        events = bomb.seen
        (folder / f"{name}.writes").write_text(json.dumps(tensor_writes))
        return events

    return in_child(work)


def serve(folder: Path, number: int) -> None:
    """One uninterrupted run, and others killed at `number` points and in the middle of some tensor files."""
    import babelscope.checkpoints.pretrain  # noqa: F401 - before the first fork

    write_sources(folder)
    total = run(folder, "reference", None)
    assert total is not None
    tensor_writes = json.loads((folder / "reference.writes").read_text())
    points = sorted({*spread(total, number), *tensor_writes[:: len(tensor_writes) // (number // 2)]})
    for point in points:
        name = f"killed-{point}"
        assert run(folder, name, point) is None, f"the run outlived event {point} of {total}"
        if point % 2:
            run(folder, name, 40)  # and a second time while it is taken up
        assert run(folder, name, None) is not None
    (folder / "points.json").write_text(json.dumps(points))


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
    [
        pytest.param(3, id="a few kills"),
        pytest.param(18, id="some twenty-five kills", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_in_the_same_bits_as_an_uninterrupted_one(number, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.checkpoints.test_pretrain_kill", str(tmp_path), str(number)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    points = json.loads((tmp_path / "points.json").read_text())
    assert len(points) >= number
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
