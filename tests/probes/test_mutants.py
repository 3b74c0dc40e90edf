"""Broken copies differ in one place, of the code alone."""

import difflib

import pytest

from babelscope.probes.mutants import mutants
from babelscope.probes.primer import broken, task_languages, tasks

PYTHON = '''def f(xs: list[int], k=1) -> int:
    """Up to 3 < 4 and more."""
    total = 0  # 7 > 6
    for x in xs:
        if x <= 10 and x % 2 == 0:
            total += x * 3
    return total
'''


def test_every_operator_constant_and_return_of_the_code_is_changed_once():
    found = [
        (m.was, m.became, m.kind)
        for m in mutants("python", PYTHON, start=PYTHON.index(":\n"), returned=("0",))
    ]
    assert found == [
        ("0", "1", "constant"),
        ("<=", "<", "operator"),
        ("10", "11", "constant"),
        ("and", "or", "operator"),
        ("%", "*", "operator"),
        ("2", "3", "constant"),
        ("==", "!=", "operator"),
        ("0", "1", "constant"),
        ("+=", "-=", "operator"),
        ("*", "+", "operator"),
        ("3", "4", "constant"),
        ("total", "0", "return"),
    ]


def test_each_copy_is_the_original_but_for_the_place_it_names():
    for mutant in mutants("python", PYTHON, returned=("0",)):
        lines = zip(PYTHON.splitlines(), mutant.text.splitlines(), strict=True)
        assert [n for n, (a, b) in enumerate(lines, 1) if a != b] == [mutant.line]


def test_a_value_that_is_returned_anyway_gives_way_to_the_next():
    assert [
        m.became
        for m in mutants("python", "def f():\n    return 0\n", returned=("0", "1"))
        if m.kind == "return"
    ] == ["1"]


def test_characters_of_several_bytes_keep_their_places():
    found = mutants("python", "s = 'ü€'\nn = 1 + 2\n", start=len("s = 'ü€'\n"))
    assert [m.text.splitlines()[1] for m in found] == ["n = 2 + 2", "n = 1 - 2", "n = 1 + 3"]


@pytest.mark.parametrize("language", task_languages())
def test_brackets_of_types_are_not_comparisons(language):
    task = tasks()["run_lengths"]
    prompt = task.prompt(language)
    whole = prompt + task.solutions[language]
    for mutant in broken(task, language):
        assert mutant.text.startswith(prompt)
        changed = [op for op in difflib.ndiff([whole], [mutant.text]) if op[0] == "+"]
        assert len(changed) == 1
        assert "Vec<=" not in mutant.text
        assert "List<=" not in mutant.text
        assert "vector<=" not in mutant.text
    kinds = {m.kind for m in broken(task, language)}
    assert kinds == {"operator", "constant", "return"}
