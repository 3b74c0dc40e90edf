"""`babelscope analyze` killed by SIGKILL, mid-write included, ends with the results of an unkilled one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.killing import Bomb, in_child, spread
from tests.questions import TEXTS

ROOT = Path(__file__).parents[2]


def make_series(folder: Path) -> Path:
    """Three checkpoints of a tiny random model, and held-out text."""
    from tests.conftest import byte_tokenizer, make_model

    run = folder / "series"
    for step in (0, 1, 2):
        make_model("gpt2", seed=step).save_pretrained(run / f"checkpoint-{step}")
        byte_tokenizer().save_pretrained(run / f"checkpoint-{step}")
    (run / "heldout").mkdir()
    for language, texts in TEXTS.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (run / "heldout" / f"{language}.jsonl").write_text(lines)
    return run


def analyze(run: Path, at: int | None) -> int | None:
    """Run the command in a forked child that may kill itself; the number of events."""

    def work() -> int:
        from babelscope.analyses import executor
        from babelscope.checkpoints.series import Series
        from babelscope.cli import main

        executor.OBSERVED = 1280  # several shards, so that kills fall between them
        assert Series.open(run).findings
        bomb = Bomb(run, at)
        Path.write_bytes = bomb.half_written(Path.write_bytes, lambda path, _content: path)
        Path.write_text = bomb.half_written(Path.write_text, lambda path, *_, **__: path)
        code = main(
            ["analyze", str(run), "--pivot", "python", "--target", "php", "--tokens", "120", "--json"]
        )
        assert code == 1  # there is no history
        return bomb.seen

    return in_child(work)


def serve(folder: Path, number: int) -> None:
    import babelscope.analyses.report
    import babelscope.checkpoints.live  # noqa: F401 - before the first fork

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the whole process
    series = make_series(folder)
    shutil.copytree(series, folder / "reference")
    total = analyze(folder / "reference", None)
    assert total is not None
    points, left = spread(total, number), []
    for point in points:
        run = folder / f"killed-{point}"
        shutil.copytree(series, run)
        assert analyze(run, point) is None, f"the run outlived event {point} of {total}"
        left += list((run / ".babelscope").rglob("*.shard*.nc"))
        if point % 2:
            analyze(run, 7)  # and a second time while it is taken up
        assert analyze(run, None) is not None
    assert left, "no kill fell between the shards of a result"
    (folder / "points.json").write_text(json.dumps(points))


def results_of(run: Path) -> dict[str, bytes]:
    store = run / ".babelscope" / "store"
    found = {
        str(path.relative_to(run)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()
    }
    document = json.loads((run / "analysis" / "analysis.json").read_text())
    del document["name"]
    return found | {"analysis.json": json.dumps(document).encode()}


@pytest.mark.parametrize(
    "number",
    [pytest.param(4, id="four kills"), pytest.param(10, id="ten kills", marks=pytest.mark.slow)],
)
def test_a_killed_analysis_ends_with_the_results_of_an_uninterrupted_one(number, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.analyses.test_analyze_kill", str(tmp_path), str(number)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = results_of(tmp_path / "reference")
    assert sum(name.endswith(".nc") for name in expected) == 3 * 4 + 2  # two have a random model as null
    points = json.loads((tmp_path / "points.json").read_text())
    assert len(set(points)) == number
    for point in points:
        assert results_of(tmp_path / f"killed-{point}") == expected, point


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
