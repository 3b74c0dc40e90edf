"""Code problems: a completion is put together with tests, run, and judged by what the program does.

Data sets disagree about who closes the function (the completion, or the tests) and about how strictly values
are compared. Both conventions of the former work; for the latter a problem may have two suites of tests, and
what passes only the weaker one is counted by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.core.languages import language
from babelscope.probes.execution import FIRST, SECOND, Program, Runner
from babelscope.probes.problems import Attempt, Problem, Verdict

Comparison = Literal["strict", "permissive"]

LENIENTLY = "passed only permissively"

_RETURNS = re.compile(r"[;{}]\s*(return\b[^;{}]*;)\s*\Z")  # a statement of its own, not one after `if (…)`
_SKIPPED = (
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\\n])*\'|`[^`]*`|//[^\n]*|/\*.*?\*/'  # strings, characters, comments
)
_BRACES = re.compile(rf"{_SKIPPED}|[{{}}]", re.DOTALL)


@dataclass(frozen=True)
class CodeProblem:
    """A problem with what tests its completions.

    Attributes
    ----------
    source
        The data set.
    tests
        What follows the completion and what closes its function.
    closing
        What closes the function where the completion has not, since its set leaves that to the tests.
    lenient_tests
        The same as `tests` with a weaker comparison, where the set and this project compare differently.
    opening
        What the program begins with, where that is not the prompt.
    solution
        The set's own completion, which may be wrong.
    """

    problem: Problem
    source: str
    tests: str
    closing: str = ""
    lenient_tests: str | None = None
    opening: str | None = None
    solution: str | None = None


def trimmed(code: CodeProblem) -> CodeProblem:
    """The problem with a prompt that ends in no white space; what it ended in begins the solution.

    In most tokenizers a line break and the indentation after it are one token. A prompt that ends in the line
    break asks for a way of writing that the model has hardly ever seen.
    """
    prompt = code.problem.prompt.rstrip()
    rest = code.problem.prompt[len(prompt) :]
    return replace(
        code,
        problem=replace(code.problem, prompt=prompt),
        opening=None if code.opening is None else code.opening.rstrip(),
        solution=None if code.solution is None else rest + code.solution,
    )


def assemble(code: CodeProblem, completion: str, *, lenient: bool = False) -> Program:
    """The program that shows whether `completion` solves the problem; `lenient`: by the weaker comparison.

    Raises
    ------
    InputError
        If the tests open a main function that they do not close.
    """
    rules = language(code.problem.language).tests
    tests = code.lenient_tests if lenient and code.lenient_tests is not None else code.tests
    marker = rules.marker.replace("{first}", FIRST).replace("{second}", SECOND)
    place = _end_of_main(tests, rules.main)
    if place is None:
        raise InputError(
            f"the tests of {code.problem.id} ({code.problem.language}) do not close their main function"
        )
    tests = f"{tests[:place]}\n{marker}\n{tests[place:]}"
    opening = code.problem.prompt if code.opening is None else code.opening
    closing = "" if _closed(completion, code.problem) else code.closing
    return Program(code.problem.language, f"{rules.needs}{opening}{completion}\n{closing}{tests}")


class CodeProblems:
    """Code problems as a `ProblemSet`: attempts are run.

    Parameters
    ----------
    problems
        Of one language or several; an id names one problem of a language.
    comparison
        What counts as equal where a problem has two suites of tests. What passes only the weaker one is
        marked "passed only permissively" either way; under "strict" it is not solved.
    """

    def __init__(
        self,
        name: str,
        problems: Sequence[CodeProblem],
        *,
        runner: Runner,
        comparison: Comparison = "strict",
        max_new_tokens: int = 512,
    ):
        self.name = name
        self.problems = tuple(code.problem for code in problems)
        self.max_new_tokens = max_new_tokens
        self.comparison = comparison
        self.runner = runner
        self.key = digest([asdict(problem) for problem in self.problems])
        self._code = {(code.problem.language, code.problem.id): code for code in problems}
        if len(self._code) < len(problems):
            raise InputError(f"{name} has two problems of one id in one language")

    @property
    def marking(self) -> dict[str, Any]:
        """The comparison, the tests as they are run, and what runs them."""
        programs = [
            assemble(code, "", lenient=lenient).text
            for code in self._code.values()
            for lenient in ((False, True) if code.lenient_tests is not None else (False,))
        ]
        languages = sorted({problem.language for problem in self.problems})
        return {
            "comparison": self.comparison,
            "programs": digest(programs),
            "runs": {name: self.runner.runs(name) for name in languages},
        }

    def check(self) -> None:
        """Whether the sandbox works here."""
        self.runner.sandbox.check()

    def mark(
        self, attempts: Sequence[Attempt], *, advance: Callable[[int], None] = lambda done: None
    ) -> list[Verdict]:
        """Run every attempt, and by the weaker comparison those that fail where there is one."""
        code = [self._code[attempt.problem.language, attempt.problem.id] for attempt in attempts]
        programs = [assemble(one, attempt.completion) for one, attempt in zip(code, attempts, strict=True)]
        verdicts = self.runner.run(programs, advance=advance)
        again = [
            place
            for place, verdict in enumerate(verdicts)
            if verdict.solved is False and code[place].lenient_tests is not None
        ]
        leniently = self.runner.run(
            [assemble(code[place], attempts[place].completion, lenient=True) for place in again],
            advance=lambda done: None,
        )
        for place, verdict in zip(again, leniently, strict=True):
            if verdict.solved:
                verdicts[place] = Verdict(self.comparison == "permissive", LENIENTLY, verdicts[place].detail)
        return verdicts


def _closed(completion: str, problem: Problem) -> bool:
    whole = problem.prompt + completion.rstrip()
    if not problem.ends_after:
        return False
    closings = re.compile(problem.ends_after, re.MULTILINE).finditer(whole, len(problem.prompt))
    return any(closing.end() == len(whole) for closing in closings)


def _end_of_main(tests: str, main: str) -> int | None:
    """Where the marker goes: before what closes main, or before the `return` that main ends with."""
    found = list(re.finditer(main, tests, re.MULTILINE)) if main else []
    if not found:
        return len(tests)
    depth = 0
    for token in _BRACES.finditer(tests, found[-1].end()):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if token[0] == "}" and depth == 0:
            returns = _RETURNS.search(tests, found[-1].end(), token.start())
            return returns.start(1) if returns else token.start()
    return None
