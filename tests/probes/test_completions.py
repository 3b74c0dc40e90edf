from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelscope.core.languages import known
from babelscope.probes.completions import cut, ended, ends
from babelscope.probes.formats import read_problems
from babelscope.probes.primer import primer, task_languages
from babelscope.probes.problems import Problem
from tests.probes.code_examples import JUNK, PLUS_ONE, SUM_EVEN, data, multipl_e

FUNCTIONS = {
    "javascript": ("const f = (x) => {\n", "  if (x) {\n    return 1;\n  }\n\n  return 2;\n}"),
    "julia": ("function f(x)\n", "    if x\n        return 1\n    end\n\n    return 2\nend"),
    "python": ("def f(x):\n", "    if x:\n        return 1\n\n    return [\n        2,\n]"),
    "swift": ("func f(x: Bool) -> Int {\n", "    if x {\n        return 1\n    }\n\n    return 2\n}"),
    "lua": ("local function f(x)\n", "    if x then\n        return 1\n    end\n\n    return 2\nend"),
    "ruby": ("def f(x)", "\n  if x\n    return 1\n  end\n\n  2\nend"),
    "csharp": (
        "class P {\n    public static int F(bool x)\n    {\n",
        "        if (x)\n        {\n            return 1;\n        }\n\n        return 2;\n    }",
    ),
}  # fmt: skip


def problem(language: str, prompt: str, stop: tuple[str, ...] = ()) -> Problem:
    after, before = ends(language, prompt)
    return Problem("1", language, prompt, stop=stop, ends_after=after, ends_before=before)


@pytest.mark.parametrize("language", sorted(FUNCTIONS))
def test_a_function_is_kept_whole_with_its_empty_lines_and_what_follows_is_cut(language: str) -> None:
    prompt, body = FUNCTIONS[language]
    asked = problem(language, prompt)
    assert cut(body, asked) == body
    assert cut(body + "\n" + JUNK[language], asked).rstrip() == body


def test_every_language_has_junk_to_be_tried_with() -> None:
    assert JUNK.keys() == known().keys()


@pytest.mark.parametrize("language", task_languages())
def test_the_primers_solutions_are_kept_whole_and_what_follows_is_cut(language: str) -> None:
    for code in primer([language]):
        assert code.solution is not None
        assert cut(code.solution, code.problem).strip() == code.solution.strip()
        assert cut(code.solution + JUNK[language], code.problem).strip() == code.solution.strip()


@pytest.mark.parametrize("language", sorted(PLUS_ONE))
def test_functions_after_multipl_e_prompts_are_kept_whole_and_what_follows_is_cut(language: str) -> None:
    for number, body in ((42, PLUS_ONE[language]), (85, SUM_EVEN[language])):
        asked = multipl_e(language, number).problem
        assert cut(body, asked).strip() == body.strip()
        assert cut(body + JUNK[language], asked).strip() == body.strip()


@pytest.mark.parametrize(
    ("name", "language", "longer", "loose"),
    [
        ("humaneval/HumanEval.jsonl.gz", "python", 0, 0),
        ("humaneval_x/humaneval_js.jsonl.gz", "javascript", 0, 0),
        (
            "mbxp/mbpp_release_v1.jsonl.gz",
            "python",
            4,
            0,
        ),  # helpers that follow the function, a comment beside it
        ("mbxp/mbphp_release_v1.2.jsonl.gz", "php", 25, 0),  # `?>` and what a model wrote after it
        (
            "mbxp/mbcpp_release_v1.2.jsonl.gz",
            "cpp",
            1,
            3,
        ),  # closed once too often; closed elsewhere than where they were opened
        ("mbxp/mbcsp_release_v1.2.jsonl.gz", "csharp", 0, 0),
        ("mbxp/mbjp_release_v1.2.jsonl.gz", "java", 0, 0),
    ],
)
def test_published_solutions_are_kept_whole_and_what_follows_is_cut(
    name: str, language: str, longer: int, loose: int
) -> None:
    with gzip.open(data(name), "rt", encoding="utf-8") as lines:
        solutions = [
            (record["prompt"], record["canonical_solution"])
            for record in map(json.loads, lines)
            if record["canonical_solution"] is not None
        ]
    cut_short = not_cut = 0
    for prompt, solution in solutions:
        asked = problem(language, prompt)
        kept = cut(solution, asked)
        rest = solution[len(kept) :].strip()
        cut_short += rest not in ("", "}" if language == "java" else "")  # Java's close the class as well
        not_cut += cut(kept + "\n" + JUNK[language], asked).strip() != kept.strip()
    assert (cut_short, not_cut) == (longer, loose)


@pytest.mark.parametrize("folder", ["multipl_e_humaneval", "mxeval_humaneval", "mbxp"])
def test_every_published_prompt_ends_in_the_function_that_the_rules_find(folder: str) -> None:
    for suite in read_problems(data(folder), flawed=True):
        indents = {code.problem.ends_after for code in suite.problems}
        assert len(indents) == 1, (suite.name, suite.language, indents)


def test_stop_strings_are_no_part_of_the_completion() -> None:
    asked = problem("php", "<?php\nfunction f($x) {\n", stop=("<|end|>",))
    assert cut("    return 1;<|end|>\n}\n", asked) == "    return 1;"
    assert ended("    return 1;<|end|>", asked)


def test_a_line_begins_where_the_programs_does_and_not_where_the_completion_does() -> None:
    asked = problem("r", "f <- function(x) {")
    assert cut("# adds\n    x + 1\n}\nf(2)\n", asked) == "# adds\n    x + 1\n}"


def test_a_completion_is_not_ended_by_what_may_still_become_something_else() -> None:
    asked = problem("lua", "local function f(x)\n")
    assert not ended("    return x\nend", asked)
    assert ended("    return x\nend\n", asked)
    assert cut("    x()\nendpoint = 1\n    return x\nend\n", asked).endswith("return x\nend")


PIECES = (
    "}",
    "end",
    "    ",
    "\n",
    "x",
    "def",
    " f",
    "function",
    "(",
    ")",
    "let",
    "#",
    "}\n",
    "\nint main",
    "STOP",
)
pieces = st.lists(st.sampled_from(PIECES))


@pytest.mark.parametrize(
    ("language", "prompt"),
    [
        ("python", "def f(x):\n"),
        ("php", "<?php\nfunction f($x) {\n"),
        ("cpp", "int f(int x) {\n"),
        ("java", "class P {\n    static int f(int x) {\n"),
        ("ruby", "def f(x)"),
        ("ocaml", "let f (x : int) : int ="),
        ("racket", "(define (f x)\n"),
        ("r", "f <- function(x) {"),
    ],
)
def test_what_is_kept_of_an_ended_completion_does_not_change_as_it_grows(language: str, prompt: str) -> None:
    asked = problem(language, prompt, stop=("STOP",))

    @given(before=pieces, after=pieces)
    def holds(before: list[str], after: list[str]) -> None:
        text = "".join(before)
        if ended(text, asked):
            assert cut(text + "".join(after), asked) == cut(text, asked)

    holds()
