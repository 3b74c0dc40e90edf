"""From the names of problem sets to problems that can be asked and marked, and what was left out.

    code = { problems = ["primer", "humaneval-php.jsonl"], comparison = "strict", sandbox = "bubblewrap" }

in `questions.toml`, or the same on the command line. Only problems that every asked language has are asked,
so that scores of languages, and of pivot and target, are about the same tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from babelscope.analyses.grades import graded
from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import language, shown
from babelscope.interp.continuation import Continuation
from babelscope.probes.code import CodeProblem, CodeProblems
from babelscope.probes.execution import Runner
from babelscope.probes.formats import Suite, aligned, read_problems
from babelscope.probes.mutants import mutants
from babelscope.probes.primer import primer
from babelscope.probes.sandbox import sandbox
from babelscope.probes.verdicts import VerdictCache

PRIMER = "primer"
COPIES = 5  # broken ones of each solution


class CodeAsked(Strict):
    """Code problems to be asked.

    Attributes
    ----------
    problems
        "primer", files, or data sets; files are relative to the questions file.
    comparison
        What counts as equal where a set compares loosely; see `babelscope.probes.code`.
    sandbox
        Where completions are run.
    max_new_tokens
        Room for one completion.
    """

    problems: tuple[str, ...] = Field(min_length=1)
    comparison: Literal["strict", "permissive"] = "strict"
    sandbox: Literal["bubblewrap", "processes"] = "bubblewrap"
    max_new_tokens: int = Field(default=512, ge=1)


@dataclass(frozen=True)
class Collected:
    """Problems in several languages.

    Attributes
    ----------
    problems
        To be asked and marked.
    code
        The same with tests and solutions.
    notes
        What was left out, and why.
    missing
        Language → what would bring its toolchain; its problems will count as not run.
    """

    problems: CodeProblems
    code: tuple[CodeProblem, ...]
    notes: tuple[str, ...]
    missing: dict[str, str]

    def graded(self) -> list[Continuation]:
        """What graded scores read: solutions, broken copies of them, and one language's after another's."""
        solutions: dict[str, dict[str, tuple[str, str]]] = {}
        broken: dict[str, dict[str, list[str]]] = {}
        for one in self.code:
            if one.solution is not None:
                problem = one.problem
                solutions.setdefault(problem.language, {})[problem.id] = problem.prompt, one.solution
                broken.setdefault(problem.language, {})[problem.id] = _copies(problem.prompt, one)
        return graded(solutions, broken)


def collect(
    asked: CodeAsked,
    languages: Sequence[str],
    *,
    base: Path,
    verdicts: Path | None = None,
    workers: int | None = None,
) -> Collected:
    """Read problem sets and keep the problems that all languages have.

    Parameters
    ----------
    languages
        In which they are asked.
    base
        What files are relative to.
    verdicts
        Where verdicts are kept.
    workers
        Programs that are run at a time; default: one per core.

    Raises
    ------
    InputError
        If a set cannot be read, a language has no problems, or the languages share none.
    """
    names = list(dict.fromkeys(language(name).name for name in languages))
    known = [suite for source in asked.problems for suite in _suites(source, base, names)]
    suites = [suite for suite in known if suite.language in names]
    whole = [_in_language(name, suites) for name in names]
    if empty := [suite.language for suite in whole if not suite.problems]:
        raise InputError(
            f"{', '.join(asked.problems)}: no problems in {', '.join(empty)}; "
            f"there are some in {', '.join(sorted({suite.language for suite in known}))}"
        )
    shared = aligned(whole)
    kept = tuple(_labelled(one) for suite in shared for one in suite.problems)
    notes = [
        f"{shown(of.language)}: {len(of)} problems, {len(both)} of them asked in every language"
        for of, both in zip(whole, shared, strict=True)
        if len(of) > len(both)
    ]
    notes += [
        f"{suite.name} in {shown(suite.language)}: left out {number}: {reason}"
        for suite in suites
        for number, reason in suite.left_out.items()
    ]
    cache = VerdictCache(verdicts) if verdicts else None
    runner = Runner(sandbox=sandbox(asked.sandbox), workers=workers, verdicts=cache)
    missing = {name: why for name in names if (why := runner.missing(name))}
    notes += [f"{shown(name)} is not run here: {why}" for name, why in missing.items()]
    problems = CodeProblems(
        "+".join(asked.problems),
        kept,
        runner=runner,
        comparison=asked.comparison,
        max_new_tokens=asked.max_new_tokens,
    )
    return Collected(problems, kept, tuple(notes), missing)


def _suites(source: str, base: Path, languages: Sequence[str]) -> list[Suite]:
    if source == PRIMER:
        return [Suite(PRIMER, name, tuple(primer([name])), {}) for name in languages]
    file = base / source
    return read_problems(file if file.exists() else source)


def _in_language(name: str, suites: Sequence[Suite]) -> Suite:
    """All problems in one language."""
    problems = (one for suite in suites if suite.language == name for one in suite.problems)
    return Suite("the problems", name, tuple(problems), {})


def _labelled(one: CodeProblem) -> CodeProblem:
    """With the set's family as the problem's group: "HumanEval" of "HumanEval/23"."""
    return replace(one, problem=replace(one.problem, group=one.problem.id.partition("/")[0]))


def _copies(prompt: str, one: CodeProblem) -> list[str]:
    """A few broken solutions, from all over it, each as long as it but for one word."""
    found = mutants(one.problem.language, prompt + (one.solution or ""), start=len(prompt))
    step = max(1, len(found) // COPIES)
    return [mutant.text[len(prompt) :] for mutant in found[::step][:COPIES]]
