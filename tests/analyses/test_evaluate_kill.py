"""`babelscope evaluate` killed by SIGKILL, mid-write included, ends with the tables of an unkilled one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.analyses.test_analyze_kill import ROOT, make_series
from tests.killing import Bomb, in_child, spread
from tests.probes.sandboxed import needs

PROBLEMS = 6


def make_problems(folder: Path) -> Path:
    """Problems that an empty body, or any other, may solve: half of them ask for nothing."""
    path = folder / "problems.jsonl"
    records = [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f"x = 1  #{n}\ndef f{n}():\n    return 1\n",
            "entry_point": f"f{n}",
            "canonical_solution": "",
            "test": f"def check(candidate):\n    assert candidate() == {1 + n % 2}\n",
        }
        for n in range(PROBLEMS)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def evaluate(run: Path, problems: Path, at: int | None) -> int | None:
    """Run the command in a forked child that may kill itself; the number of events."""

    def work() -> int:
        from babelscope.analyses import executor
        from babelscope.cli import main

        executor.GENERATED = 64  # several shards, so that kills fall between them
        bomb = Bomb(run, at)
        Path.write_bytes = bomb.half_written(Path.write_bytes, lambda path, _content: path)
        options = ["--language", "python", "--max-new-tokens", "6", "--keep-flagged", "--json"]
        assert main(["evaluate", str(run), "--problems", str(problems), *options]) in (0, 1)
        return bomb.seen

    return in_child(work)


def serve(folder: Path, number: int) -> None:
    import babelscope.checkpoints.live  # noqa: F401 - before the first fork

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the whole process
    series, problems = make_series(folder), make_problems(folder)
    shutil.copytree(series, folder / "reference")
    total = evaluate(folder / "reference", problems, None)
    assert total is not None
    points = spread(total, number)
    for point in points:
        run = folder / f"killed-{point}"
        shutil.copytree(series, run)
        assert evaluate(run, problems, point) is None, f"the run outlived event {point} of {total}"
        assert evaluate(run, problems, None) is not None
    (folder / "points.json").write_text(json.dumps(points))


def tables_of(run: Path) -> dict[str, object]:
    document = json.loads((run / "evaluation" / "evaluation.json").read_text())
    outcomes = (run / "evaluation" / "outcomes_python.csv").read_text()
    stored = {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted((run / ".babelscope" / "store").rglob("*.nc"))
    }
    return {"document": document, "outcomes": outcomes, **stored}


@pytest.mark.sandbox
def test_a_killed_evaluation_ends_with_the_tables_of_an_uninterrupted_one(tmp_path):
    needs("python")
    done = subprocess.run(
        [sys.executable, "-m", "tests.analyses.test_evaluate_kill", str(tmp_path), "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = tables_of(tmp_path / "reference")
    assert sum(name.endswith(".nc") for name in expected) == 2 * 3
    reasons = {row["reason"] for row in expected["document"]["reasons"]}
    assert len(reasons) > 1
    for point in json.loads((tmp_path / "points.json").read_text()):
        assert tables_of(tmp_path / f"killed-{point}") == expected, point


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
