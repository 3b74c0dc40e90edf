"""Problems: a prompt, and a rule that says whether a completion solves it.

What marks a completion (running it, comparing values) belongs to the problem set, so that scores
of any kind are solved-or-not per problem and every analysis of them is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from babelscope.core.errors import InputError
from babelscope.core.files import digest


@dataclass(frozen=True)
class Problem:
    """One question in one language.

    Attributes
    ----------
    id
        The same id in every language names the same task: curves are compared on shared problems.
    group
        What the problem tests, for scores by group ("pivot only", "both", "target only").
    stop
        Strings that end a completion.
    """

    id: str
    language: str
    prompt: str
    group: str = "all"
    stop: tuple[str, ...] = ()


class ProblemSet(Protocol):
    """A named set of problems with its marking.

    Attributes
    ----------
    key
        Hash of problems and marking; part of the key under which results are stored.
    """

    name: str
    problems: tuple[Problem, ...]
    max_new_tokens: int
    key: str

    def solved(self, problem: Problem, completion: str) -> bool:
        """Whether `completion` (cut at the first stop string) solves `problem`."""
        ...


class JoinedProblems:
    """Several problem sets, one per language, asked together.

    Raises
    ------
    InputError
        If two sets ask in the same language: marking would not know whose problem it has.
    """

    def __init__(self, sets: Sequence[ProblemSet]):
        self._by_language: dict[str, ProblemSet] = {}
        for asked in sets:
            for language in {problem.language for problem in asked.problems}:
                if language in self._by_language:
                    raise InputError(
                        f"{asked.name} and {self._by_language[language].name} both ask in {language}"
                    )
                self._by_language[language] = asked
        self.name = "+".join(asked.name for asked in sets)
        self.problems = tuple(problem for asked in sets for problem in asked.problems)
        self.max_new_tokens = max(asked.max_new_tokens for asked in sets)
        self.key = digest([asked.key for asked in sets])

    def solved(self, problem: Problem, completion: str) -> bool:
        """As the problem's own set marks it."""
        return self._by_language[problem.language].solved(problem, completion)
