"""The primer's problems are whole, right in every language, and tested well enough to notice a slip."""

from __future__ import annotations

import json

import pytest

from babelscope.core.errors import InputError
from babelscope.probes.code import assemble
from babelscope.probes.completions import cut
from babelscope.probes.execution import Runner
from babelscope.probes.primer import Source, Task, primer, task_languages, tasks
from tests.primer_mutants import hold, on_all_inputs
from tests.primer_tests import solution
from tests.probes.sandboxed import needs

TEN = ("python", "php", "csharp", "go", "cpp", "java", "javascript", "rust", "ruby", "lua")


@pytest.fixture(scope="module")
def runner():
    return Runner()


def test_there_are_forty_problems_in_ten_languages():
    assert set(task_languages()) == set(TEN)
    assert len(tasks()) >= 40
    for name, task in tasks().items():
        assert task.name == name
        assert set(task.solutions) == set(TEN)


@pytest.mark.parametrize("task", tasks().values(), ids=list(tasks()))
def test_tests_are_generated_inputs_with_the_python_solutions_results(task):
    generated = {json.dumps(given) for given in task.draw()}
    right = solution(task)
    assert len(task.tests) >= min(12, len(generated))
    for test in task.tests:
        assert json.dumps(test.given) in generated
        assert right(*json.loads(json.dumps(test.given))) == test.gives
    assert len({json.dumps(test.given) for test in task.tests}) == len(task.tests)


@pytest.mark.parametrize("task", tasks().values(), ids=list(tasks()))
def test_inputs_repeat_are_of_their_types_and_results_vary(task):
    first, again = list(task.draw(50)), list(task.draw(50))
    assert first == again
    assert list(task.draw(50, seed=1)) != first
    results = {json.dumps(example.gives) for example in on_all_inputs(task)}
    assert len(results) >= 2
    for given in first:
        for kind, value in zip(task.parameters.values(), given, strict=True):
            assert _is_a(kind, value)


def _is_a(kind, value):
    if kind.startswith("list["):
        return isinstance(value, list) and all(_is_a(kind[5:-1], one) for one in value)
    return type(value).__name__ == kind


@pytest.mark.parametrize("language", TEN)
def test_completions_end_where_solutions_do(language):
    for code in primer([language]):
        assert cut(code.solution, code.problem).rstrip() == code.solution.rstrip(), code.problem.id
        assert cut(code.solution + "\nx = 1\n", code.problem).rstrip() == code.solution.rstrip(), (
            code.problem.id
        )


@pytest.mark.sandbox
@pytest.mark.parametrize("language", TEN)
def test_every_solution_passes(language, runner):
    needs(language)
    problems = primer([language])
    verdicts = runner.run([assemble(code, code.solution) for code in problems])
    failed = {c.problem.id: v for c, v in zip(problems, verdicts, strict=True) if not v.solved}
    assert failed == {}


@pytest.mark.sandbox
@pytest.mark.parametrize("language", TEN)
def test_broken_copies_of_a_solution_are_noticed(language, runner):
    needs(language)
    found = hold(tasks()["run_lengths"], language, runner)
    assert found.survivors == []
    assert found.noticed >= 8


def test_a_problem_reads_alike_in_every_language_but_for_its_names_and_types():
    prompts = {language: tasks()["run_lengths"].prompt(language) for language in TEN}
    for prompt in prompts.values():
        assert tasks()["run_lengths"].asks in prompt
        assert prompt.count(" gives ") == 2
    assert "def run_lengths(values: list[int]) -> list[int]:\n" in prompts["python"]
    assert "public static List<Integer> runLengths(List<Integer> values) {\n" in prompts["java"]
    assert "public static List<int> RunLengths(List<int> values)\n" in prompts["csharp"]


def test_other_languages_are_refused_by_name():
    with pytest.raises(InputError, match="not written in 'racket'"):
        primer(["racket"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": {"other": Source(integer=(0, 1))}}, "inputs are given for"),
        ({"tests": [{"given": ["a$b"], "gives": 1}]}, "not written alike"),
        ({"inputs": {"values": {"length": [0, 3]}}}, "one of integer, boolean, string, list_of"),
        ({"nosuch": 1}, "unknown key 'nosuch'"),
    ],
)
def test_a_malformed_problem_is_refused_in_words(change, words):
    whole = {
        "name": "f",
        "asks": "Do it.",
        "parameters": {"values": "int"},
        "returns": "int",
        "inputs": {"values": {"integer": [0, 3]}},
        "solutions": {},
    }
    Task.parse(whole, origin="f.toml")
    with pytest.raises(InputError, match=words):
        Task.parse(whole | change, origin="f.toml")


def test_strings_are_drawn_from_their_alphabet_and_lists_are_ordered_or_distinct_where_asked():
    import numpy as np

    rng = np.random.default_rng(0)
    words = Source(list_of=Source(string="ab", length=(1, 3)), length=(2, 6))
    assert {letter for _ in range(50) for word in words.draw(rng) for letter in word} == {"a", "b"}
    ordered = Source(list_of=Source(integer=(0, 9)), length=(5, 9), ascending=True, distinct=True)
    for _ in range(50):
        drawn = ordered.draw(rng)
        assert drawn == sorted(set(drawn))
