from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from babelscope.core.errors import InputError
from babelscope.probes.code import CodeProblem, CodeProblems, assemble
from babelscope.probes.completions import cut, ends
from babelscope.probes.execution import FIRST, SECOND, Program, Runner
from babelscope.probes.formats import read_problems
from babelscope.probes.primer import primer, tasks
from babelscope.probes.problems import Attempt, Problem, Verdict
from tests.probes.code_examples import JUNK, LEAVES, PLUS_ONE, SUM_EVEN, data, multipl_e, solutions, wrong
from tests.probes.sandboxed import needs


class Pretended(Runner):
    """A runner for which a program passes if it holds none of the given words."""

    def __init__(self, *fatal: str, version: str = "1"):
        self.fatal = fatal
        self.version = version

    def runs(self, language_name: str) -> str:
        return self.version

    def run(
        self, programs: Sequence[Program], *, advance: Callable[[int], None] = lambda done: None
    ) -> list[Verdict]:
        advance(len(programs))
        failed = [any(word in program.text for word in self.fatal) for program in programs]
        return [Verdict(False, "failed", "why") if bad else Verdict(True, "passed") for bad in failed]


def code(language: str, prompt: str, tests: str, **others: str) -> CodeProblem:
    after, before = ends(language, prompt)
    asked = Problem("a/1", language, prompt, ends_after=after, ends_before=before)
    return CodeProblem(asked, source="a", tests=tests, **others)


def runs(language: str) -> Runner:
    needs(language)
    return Runner(workers=1)


def marker_follows(text: str, before: str, after: str) -> bool:
    """Whether the marker is between the two, and nothing else is but white space."""
    start, end = text.index(before) + len(before), text.rindex(after)
    lines = text[start:end].strip().splitlines()
    return len(lines) == 1 and FIRST in lines[0] and SECOND in lines[0]


def test_the_marker_is_the_last_statement_of_main_before_its_return() -> None:
    main = "int main() {\n    char c = '}'; // }\n    check(\"}{\");\n    return 0;\n}\n"
    tests = main + "int later() { return 1; }\n"
    text = assemble(code("cpp", "int f() {\n", tests), "    return 1;\n}").text
    assert marker_follows(text, 'check("}{");', "return 0;\n}\nint later")


def test_the_marker_is_at_the_end_where_there_is_no_main() -> None:
    text = assemble(code("lua", "local function f()\n", "assert(f() == 1)\n"), "    return 1\nend").text
    assert marker_follows(text + "END", "assert(f() == 1)", "END")


def test_a_main_in_the_completion_does_not_get_the_marker() -> None:
    tests = "int main() {\n    check();\n}\n"
    text = assemble(code("cpp", "int f() {\n", tests), "    return 1;\n}\nint main() { }").text
    assert marker_follows(text, "check();", "}\n")


def test_tests_that_do_not_close_main_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="a/1"):
        assemble(code("cpp", "int f() {\n", "int main() {\n    check();\n"), "}")


@pytest.mark.parametrize("body", ["    return {1};", "    return {1};\n}", "    return {1};\n}\n\n"])
def test_the_function_is_closed_once_whoever_closes_it(body: str) -> None:
    text = assemble(code("rust", "fn f() -> X {\n", "\nfn main() {}\n", closing="}"), body).text
    assert text.count("{") == text.count("}")
    assert text.split("fn main")[0].count("}") == 2


def test_what_passes_only_the_weaker_comparison_is_counted_by_name() -> None:
    asked = replace(code("php", "<?php\nfunction f() {\n", "same();"), lenient_tests="alike();")
    attempts = [Attempt(asked.problem, text) for text in ("good }", "BAD }")]
    for comparison, solved in (("strict", False), ("permissive", True)):
        marked = CodeProblems("a", [asked], runner=Pretended("same();", "BAD"), comparison=comparison)
        near, bad = marked.mark(attempts)
        assert (near.solved, near.reason, near.detail) == (solved, "passed only permissively", "why")
        assert (bad.solved, bad.reason) == (False, "failed")


def test_every_attempt_is_counted_as_done_once() -> None:
    asked = replace(code("php", "<?php\nfunction f() {\n", "same();"), lenient_tests="alike();")
    done: list[int] = []
    CodeProblems("a", [asked], runner=Pretended("same();")).mark(
        [Attempt(asked.problem, "x"), Attempt(asked.problem, "y")], advance=done.append
    )
    assert sum(done) == 2


def test_what_is_asked_and_what_marks_it_have_keys_of_their_own() -> None:
    asked = code("lua", "local function f()\n", "assert(f())\n")
    first = CodeProblems("a", [asked], runner=Pretended())
    other_tests = CodeProblems("a", [replace(asked, tests="assert(not f())\n")], runner=Pretended())
    other_prompt = CodeProblems(
        "a", [code("lua", "local function g()\n", "assert(f())\n")], runner=Pretended()
    )
    assert first.key == other_tests.key != other_prompt.key
    assert first.marking != other_tests.marking
    assert first.marking != CodeProblems("a", [asked], runner=Pretended(), comparison="permissive").marking
    assert first.marking != CodeProblems("a", [asked], runner=Pretended(version="2")).marking


def test_two_problems_of_one_id_in_one_language_are_refused() -> None:
    asked = code("lua", "local function f()\n", "assert(f())\n")
    with pytest.raises(InputError, match="two problems of one id"):
        CodeProblems("a", [asked, asked], runner=Pretended())


@pytest.mark.sandbox
@pytest.mark.parametrize("language", sorted(PLUS_ONE))
def test_right_and_wrong_multipl_e_solutions_are_told_apart(language: str) -> None:
    runner = runs(language)
    for number, body in ((42, PLUS_ONE[language]), (85, SUM_EVEN[language])):
        asked = multipl_e(language, number)
        unclosed = body.rstrip().removesuffix("}").rstrip() if asked.closing else body
        texts = [body, unclosed, cut(body + JUNK[language], asked.problem), wrong(body)]
        verdicts = CodeProblems("a", [asked], runner=runner).mark([Attempt(asked.problem, t) for t in texts])
        assert [verdict.solved for verdict in verdicts] == [True, True, True, False], verdicts


@pytest.mark.sandbox
@pytest.mark.parametrize("language", sorted(LEAVES))
def test_a_completion_that_leaves_with_code_0_does_not_pass(language: str) -> None:
    asked = multipl_e(language, 42)
    [verdict] = CodeProblems("a", [asked], runner=runs(language)).mark(
        [Attempt(asked.problem, LEAVES[language])]
    )
    assert verdict.solved is False
    assert verdict.reason in ("ended early", "failed"), verdict


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("returned", "solved"), [("true", False), ("'1'", False), ("1.0", True), ("1", True), ("2", False)]
)
def test_php_tells_types_apart_but_not_1_from_1_0(returned: str, solved: bool) -> None:
    found = data("mxeval_humaneval/HumanEval_php_v1.1.jsonl.gz")
    [suite] = read_problems(found)
    original = suite.problems[0]
    compare = original.tests[: original.tests.index("$arg00")]
    assert "==" in compare
    asked = replace(
        original, tests=compare + "if (!compare(hasCloseElements(1, 2), 1)) { throw new Exception(); }"
    )
    marked = CodeProblems("a", [replace(asked, lenient_tests=None)], runner=runs("php"))
    [verdict] = marked.mark([Attempt(asked.problem, f"    return {returned};\n}}")])
    assert verdict.solved is solved, verdict


@pytest.mark.sandbox
@pytest.mark.parametrize("language", ["php", "javascript"])
def test_truth_for_a_number_passes_only_permissively_where_the_set_compares_loosely(language: str) -> None:
    if language == "php":  # strlen("a") == true for mxeval
        [suite] = read_problems(data("mxeval_humaneval/HumanEval_php_v1.1.jsonl.gz"))
        asked = next(code for code in suite.problems if code.problem.id == "HumanEval/0")
        body = """
    foreach ($numbers as $i => $x) {
        foreach ($numbers as $j => $y) {
            if ($i < $j && abs($x - $y) < $threshold) { return 1; }
        }
    }
    return 0;
}
"""
    else:  # deepEqual([1], ["1"]) for MultiPL-E
        asked = multipl_e(language, 42)
        body = "  return l.map(x => String(x + 1));\n}\n"
    for comparison, solved in (("strict", False), ("permissive", True)):
        marked = CodeProblems("a", [asked], runner=runs(language), comparison=comparison)
        [verdict] = marked.mark([Attempt(asked.problem, body)])
        assert (verdict.solved, verdict.reason) == (solved, "passed only permissively")


@pytest.mark.sandbox
def test_all_164_humaneval_solutions_pass() -> None:
    [suite] = read_problems(data("humaneval/HumanEval.jsonl.gz"))
    verdicts = CodeProblems("a", suite.problems, runner=runs("python")).mark(solutions(suite.problems))
    assert [verdict.solved for verdict in verdicts] == [True] * 164


@pytest.mark.sandbox
def test_humaneval_x_solutions_pass_but_for_two_that_are_wrong() -> None:
    [suite] = read_problems(data("humaneval_x/humaneval_js.jsonl.gz"))
    verdicts = CodeProblems("a", suite.problems, runner=runs("javascript")).mark(solutions(suite.problems))
    failed = [c.problem.id for c, v in zip(suite.problems, verdicts, strict=True) if not v.solved]
    # reverseDelete returns `(t, true)`, which is true; evenOddCount(0) gives [0, 0]. Node prints that, and
    # exits with 0.
    assert failed == ["HumanEval/112", "HumanEval/155"]


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "language", ["python", "php", "ruby", "lua", "javascript", "csharp", "go", "rust", "cpp", "java"]
)
def test_the_primers_first_solution_passes_and_an_empty_one_does_not(language: str) -> None:
    runner = runs(language)
    asked = next(code for code in primer([language]) if code.problem.id == "primer/run_lengths")
    assert asked.solution is not None
    marked = CodeProblems("a", [asked], runner=runner)
    right, empty = marked.mark([Attempt(asked.problem, asked.solution), Attempt(asked.problem, "")])
    assert right.solved, right
    assert empty.solved is False


@pytest.mark.parametrize("language", ["python", "java", "ruby"])
def test_no_prompt_ends_in_white_space_and_nothing_of_the_program_is_lost(language):
    task = tasks()["run_lengths"]
    (code,) = (one for one in primer([language]) if one.problem.id == "primer/run_lengths")
    assert code.problem.prompt == code.problem.prompt.rstrip()
    assert code.problem.prompt + code.solution == task.prompt(language) + task.solutions[language]
