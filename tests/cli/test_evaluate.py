"""`babelscope evaluate` as a user meets it: tiny random models, and problems that a test can write out."""

from __future__ import annotations

import csv
import json

import pytest

from babelscope.checkpoints.live import LiveModel
from babelscope.checkpoints.series import Series
from babelscope.cli import main
from babelscope.core.errors import InputError
from babelscope.interp import problem_scores
from babelscope.interp.generation import Written
from babelscope.probes import toolchains
from babelscope.probes.sandbox import Bubblewrap
from tests.probes.sandboxed import needs

PYTHON = "def f{n}():\n"
PHP = "<?php\nfunction f{n}() {{\n"
RIGHT = {"python": "    return {n}\n", "php": "    return {n};\n}}\n"}
NUMBER = 6


def humaneval(n):
    test = f"def check(candidate):\n    assert candidate() == {n}\n"
    return {
        "task_id": f"HumanEval/{n}",
        "prompt": PYTHON.format(n=n),
        "entry_point": f"f{n}",
        "canonical_solution": RIGHT["python"].format(n=n),
        "test": test,
    }


def mxeval(n):
    compare = "function compare($x, $y) {\n    return $x == $y;\n}\n"
    test = f"{compare}if (!compare(f{n}(), {n})) {{ throw new Exception('wrong'); }}\n"
    return {
        "task_id": f"HumanEval_php/{n}",
        "language": "php",
        "prompt": PHP.format(n=n),
        "description": "",
        "test": test,
        "entry_point": f"f{n}",
        "canonical_solution": None,
    }


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Options that name six problems in both languages; php lacks one of python's seven."""
    files = {"python": [humaneval(n) for n in range(NUMBER + 1)], "php": [mxeval(n) for n in range(NUMBER)]}
    for name, records in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    options = [part for name in files for part in ("--problems", str(tmp_path / f"{name}.jsonl"))]
    return [*options, "--pivot", "python", "--target", "php", "--max-new-tokens", "8", "--keep-flagged"]


@pytest.fixture
def knowing(monkeypatch):
    """Models that write the right answer to the first problems: as many as their place in the series says."""
    known = iter([0, 4, 2])
    seen: dict[int, int] = {}

    def complete(anatomy, tokenizer, items, problems, *, new_tokens, sampling):
        weights = hash(float(next(anatomy.model.parameters()).sum()))
        number = seen.setdefault(weights, next(known) if weights not in seen else 0)
        rows = []
        for problem in problems:
            n = int(problem.id.rpartition("/")[2])
            text = RIGHT[problem.language].format(n=n if n < number else n + 1)
            rows += [Written(text, True)] * sampling.samples
        return rows

    monkeypatch.setattr(problem_scores, "complete", complete)


pytestmark = pytest.mark.sandbox


@pytest.fixture(autouse=True)
def _toolchains():
    needs("python", "php")


def test_scores_come_with_intervals_notes_and_files(make_run, asked, knowing, capsys):
    run = make_run(steps=(0, 10, 20))
    assert main(["evaluate", str(run), *asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    scores = {(row["step"], row["language"]): row for row in document["scores"]}
    assert [scores[step, "php"]["estimate"] for step in (0, 10, 20)] == pytest.approx([0, 4 / 6, 2 / 6])
    assert scores[10, "python"]["low"] < 4 / 6 < scores[10, "python"]["high"]
    assert {row["reason"] for row in document["reasons"]} == {"passed", "failed"}
    last = document["changes"][-1]
    assert (last["step"], last["against"], last["gained"], last["lost"]) == (20, 10, 0, 2)
    assert "Python: 7 problems, 6 of them asked in every language" in document["notes"]
    with open(run / "evaluation" / "outcomes_php.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * NUMBER
    assert {"step", "problem", "passed"} <= set(rows[0])


def test_the_harness_files_are_read_back_as_scores_of_their_checkpoints(make_run, asked, knowing, capsys):
    run = make_run(steps=(0, 10, 20))
    main(["evaluate", str(run), *asked])
    found = {(s.step, s.metric): s.value for s in Series.open(run).scores if s.task.endswith("_php")}
    assert found[10, "pass@1"] == pytest.approx(4 / 6)
    capsys.readouterr()


def test_asking_again_and_marking_otherwise_reads_no_weights(make_run, asked, knowing, capsys, monkeypatch):
    run = make_run(steps=(0, 10, 20))
    main(["evaluate", str(run), *asked, "--json"])
    first = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(LiveModel, "__init__", lambda *_, **__: pytest.fail("weights were read"))
    assert main(["evaluate", str(run), *asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == first["scores"]
    assert main(["evaluate", str(run), *asked, "--comparison", "permissive", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == first["scores"]


def test_samples_give_pass_at_k(make_run, asked, knowing, capsys):
    run = make_run(steps=(0, 10, 20))
    options = ["--samples", "4", "--temperature", "0.8", "-k", "1", "-k", "4"]
    assert main(["evaluate", str(run), *asked, *options, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["k"] for row in document["scores"]} == {1, 4}
    assert "changes" not in document


def test_a_language_that_nothing_runs_counts_as_not_run(make_run, asked, knowing, capsys, monkeypatch):
    run = make_run(steps=(0, 10, 20))
    missing = toolchains.missing
    monkeypatch.setattr(
        toolchains, "missing", lambda name: "php is not here" if name == "php" else missing(name)
    )
    assert main(["evaluate", str(run), *asked, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    row = next(row for row in document["scores"] if row["language"] == "php")
    assert (row["problems"], row["not_run"], row["estimate"]) == (0, NUMBER, None)
    assert any("PHP is not run here: php is not here" in note for note in document["notes"])


def test_once_the_language_is_there_it_is_run(make_run, asked, knowing, capsys, monkeypatch):
    run = make_run(steps=(0, 10, 20))
    missing = toolchains.missing
    with monkeypatch.context() as patch:
        patch.setattr(toolchains, "missing", lambda name: "not here" if name == "php" else missing(name))
        main(["evaluate", str(run), *asked])
    capsys.readouterr()
    assert main(["evaluate", str(run), *asked, "--json"]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out)["scores"] if row["language"] == "php")
    assert row["problems"] == NUMBER


def test_knowledge_transferred_is_about_what_a_run_of_the_target_alone_fails(
    make_run, asked, capsys, monkeypatch
):
    run, alone = make_run("run", steps=(0, 10)), make_run("alone", steps=(5, 30))

    def complete(anatomy, tokenizer, items, problems, *, new_tokens, sampling):
        at_start = anatomy.model.transformer.wte.weight.equal(start)
        rows = []
        for problem in problems:
            n = int(problem.id.rpartition("/")[2])
            known = (
                n < 4 if at_start and problem.language == "python" else n < 1 if not later(anatomy) else n < 3
            )
            rows.append(Written(RIGHT[problem.language].format(n=n if known else n + 1), True))
        return rows

    from transformers import AutoModelForCausalLM

    start = AutoModelForCausalLM.from_pretrained(run / "checkpoint-0").transformer.wte.weight
    end = AutoModelForCausalLM.from_pretrained(run / "checkpoint-10").transformer.wte.weight

    def later(anatomy):
        return anatomy.model.transformer.wte.weight.equal(end)

    monkeypatch.setattr(problem_scores, "complete", complete)
    assert main(["evaluate", str(run), *asked, "--monolingual", str(alone), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    # Python's model solves 0–3 in Python, PHP's alone solves 0 in PHP: 1, 2 and 3 are specific to Python.
    assert any(note.startswith("3 problems are specific to Python") for note in document["notes"])
    by_step = {row["step"]: row for row in document["transferred"]}
    assert by_step[10]["share"] == pytest.approx(2 / 3)


def test_graded_scores_read_the_sets_own_solutions(make_run, tmp_path, capsys):
    records = "".join(json.dumps(humaneval(n)) + "\n" for n in range(NUMBER))
    (tmp_path / "python.jsonl").write_text(records)
    options = ["--problems", str(tmp_path / "python.jsonl"), "--language", "python", "--max-new-tokens", "4"]
    assert main(["evaluate", str(make_run()), *options, "--graded", "--keep-flagged", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["score"] for row in document["grades"]} == {"bits per byte", "preference"}
    assert all(row["problems"] == NUMBER for row in document["grades"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-k", "10"], "pass@10 of 1 completions"),
        (["--samples", "5"], "5 greedy completions"),
        (["--sandbox", "docker"], "docker"),
        (["--comparison", "loose"], "loose"),
        (["--problems", "nosuch.jsonl"], "nosuch.jsonl"),
        (["--language", "klingon"], "klingon"),
        (["--language", "racket"], "racket"),
    ],
)
def test_what_makes_no_sense_is_refused_before_weights_are_read(
    make_run, asked, options, words, capsys, monkeypatch
):
    monkeypatch.setattr(LiveModel, "__init__", lambda *_, **__: pytest.fail("weights were read"))
    assert main(["evaluate", str(make_run()), *asked, *options]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_without_a_sandbox_nothing_is_generated(make_run, asked, capsys, monkeypatch):
    def absent(_):
        raise InputError("bwrap is not installed")

    monkeypatch.setattr(Bubblewrap, "check", absent)
    monkeypatch.setattr(LiveModel, "__init__", lambda *_, **__: pytest.fail("weights were read"))
    assert main(["evaluate", str(make_run()), *asked]) == 2
    assert "bwrap" in capsys.readouterr().err


def test_a_dry_run_says_how_many_programs_would_be_run(make_run, asked, capsys):
    run = make_run(steps=(0, 10))
    assert main(["evaluate", str(run), *asked, "--dry-run", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["programs"] == 2 * 2 * NUMBER
    assert not (run / "evaluation").exists()
