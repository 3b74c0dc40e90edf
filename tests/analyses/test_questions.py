"""What a series is asked, and where that is written."""

from __future__ import annotations

import json

import pytest

from babelscope.analyses.problem_sources import CodeAsked
from babelscope.analyses.questions import Questions
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from tests.questions import TEXTS

MINE = """
language = "{language}"
[[concepts]]
name = "mine"
identifier = "{identifier}"
prompts = [["x = ", "()"], ["y = ", "()"]]
"""


@pytest.fixture
def series(make_run):
    run = make_run(steps=(0,))
    (run / "heldout").mkdir()
    for language, texts in TEXTS.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (run / "heldout" / f"{language}.jsonl").write_text(lines)
    return Series.open(run, pivot="python", target="php")


def test_without_a_file_the_known_probes_and_the_runs_own_text_are_asked(series):
    asked = Questions.of(series)
    assert {"length", "show"} <= set(asked.probes.concepts)
    assert asked.texts == {language: list(texts) for language, texts in TEXTS.items()}
    assert asked.problems is None
    names = [measure.name for measure in asked.measures(series)]
    assert names == ["language_loss", "transferring_neurons", "working_language", "lens_table"]


def test_a_small_babel_brings_its_own_probes_and_problems(series):
    (series.directory / "questions.toml").write_text(
        'babel = { seed = 3, targets = ["php"] }\ntokens = 700\n'
    )
    asked = Questions.of(series)
    assert asked.problems is not None
    assert {problem.language for problem in asked.problems.problems} == {"python", "php"}
    assert asked.tokens == 700
    assert [measure.name for measure in asked.measures(series)][-1] == "problem_scores"


def test_the_file_may_say_what_chooses_the_best_checkpoint_and_what_exists(series):
    file = series.directory / "questions.toml"
    world = 'babel = { seed = 3, targets = ["php"] }\n'
    file.write_text(world + 'best_by = ["both"]\navailable = { python = 11e9, php = 23_000 }\n')
    asked = Questions.of(series)
    assert asked.best_by == ("both",)
    assert asked.available == {"python": 11e9, "php": 23_000}
    assert Questions.of(series, available={"python": 5}).available == {"python": 5}

    file.write_text(world + 'best_by = ["bot"]\n')
    with pytest.raises(InputError, match=r"best_by = \['bot'\].*'pivot only', 'both', 'target only'"):
        Questions.of(series)
    file.write_text('best_by = ["both"]\n')  # nothing is asked, so there is no such group
    with pytest.raises(InputError, match="best_by"):
        Questions.of(series)


def test_own_probes_join_the_known_ones(series):
    for language, identifier in (("python", "alpha"), ("php", "omega")):
        text = MINE.format(language=language, identifier=identifier)
        (series.directory / f"{language}.toml").write_text(text)
    file = series.directory / "questions.toml"
    file.write_text('probes = ["python.toml", "php.toml"]\n')
    assert {"mine", "length"} <= set(Questions.of(series).probes.concepts)
    file.unlink()
    given = [series.directory / "python.toml", series.directory / "php.toml"]
    assert {"mine", "length"} <= set(Questions.of(series, probes=given).probes.concepts)


def test_an_own_concept_that_one_language_alone_names_is_refused(series):
    path = series.directory / "php.toml"
    path.write_text(MINE.format(language="php", identifier="omega"))
    with pytest.raises(InputError, match=r"'mine' of your own is named in php alone"):
        Questions.of(series, probes=[path])


def test_a_language_is_not_compared_with_itself(series):
    same = Series.open(series.directory, pivot="python", target="python")
    with pytest.raises(InputError, match="pivot and target are both 'python'"):
        Questions.of(same)


def test_own_probes_of_a_third_language_are_refused(series):
    path = series.directory / "ruby.toml"
    path.write_text(MINE.format(language="ruby", identifier="omega"))
    with pytest.raises(InputError, match=r"ruby.toml: probes of 'ruby' say nothing about.*'python', 'php'"):
        Questions.of(series, probes=[path])


def test_other_text_can_be_given(series, tmp_path):
    (tmp_path / "other.txt").write_text("print(1)\n\nprint(2)\n")
    asked = Questions.of(series, texts={"python": tmp_path / "other.txt"})
    assert asked.texts["python"] == ["print(1)\n", "print(2)\n"]


def test_a_misspelt_key_is_named(series):
    (series.directory / "questions.toml").write_text("prbes = []\n")
    with pytest.raises(InputError, match="unknown key 'prbes'"):
        Questions.of(series)


def test_windows_fit_the_models_context(series):
    text = Questions.of(series).measures(series)[0].stream
    assert text.window == 256


def write_problems(folder):
    """Two of HumanEval's form in Python, three of mxeval's in PHP."""
    python = [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f"def f{n}():\n",
            "entry_point": f"f{n}",
            "test": "def check(f): pass\n",
        }
        for n in range(2)
    ]
    php = [
        {
            "task_id": f"HumanEval_php/{n}",
            "prompt": f"<?php\nfunction f{n}() {{\n",
            "entry_point": f"f{n}",
            "test": "",
        }
        for n in range(3)
    ]
    php = [record | {"language": "php", "description": ""} for record in php]
    for name, records in (("python", python), ("php", php)):
        lines = [json.dumps(record | {"canonical_solution": None}) for record in records]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def test_code_problems_of_both_languages_are_asked_as_far_as_they_are_shared(series):
    write_problems(series.directory)
    file = series.directory / "questions.toml"
    file.write_text('code = { problems = ["python.jsonl", "php.jsonl"], max_new_tokens = 9 }\n')
    asked = Questions.of(series)
    found = [(problem.language, problem.id) for problem in asked.problems.problems]
    assert found == [(name, f"HumanEval/{n}") for name in ("python", "php") for n in range(2)]
    assert {problem.group for problem in asked.problems.problems} == {"HumanEval"}
    assert asked.problems.max_new_tokens == 9
    assert "PHP: 3 problems, 2 of them asked in every language" in asked.notes
    names = [measure.name for measure in asked.measures(series)]
    assert names[-1] == "problem_scores"


def test_problems_given_otherwise_take_the_place_of_the_files(series):
    write_problems(series.directory)
    (series.directory / "questions.toml").write_text('code = { problems = ["nosuch.jsonl"] }\n')
    asked = Questions.of(series, code=CodeAsked(problems=("primer",)))
    assert {problem.group for problem in asked.problems.problems} == {"primer"}
    with pytest.raises(InputError, match="nosuch"):
        Questions.of(series)


def test_a_language_without_problems_is_named_with_those_that_have_some(series):
    write_problems(series.directory)
    (series.directory / "questions.toml").write_text('code = { problems = ["python.jsonl"] }\n')
    with pytest.raises(InputError, match="no problems in php; there are some in python"):
        Questions.of(series)
