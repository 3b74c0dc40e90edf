"""Problems: a prompt, and what says whether a completion solves it.

What marks a completion (running it, comparing values) belongs to the problem set, so that scores of any kind
are verdicts per problem and every analysis of them is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

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
        Strings that end a completion; they are not part of it.
    ends_after, ends_before
        Regular expressions that end it, `^` and `$` at every line: what the first matches is kept, what the
        second matches is not.
    """

    id: str
    language: str
    prompt: str
    group: str = "all"
    stop: tuple[str, ...] = ()
    ends_after: str = ""
    ends_before: tuple[str, ...] = ()


class Attempt(NamedTuple):
    """A completion of a problem, cut where it ends."""

    problem: Problem
    completion: str


class Verdict(NamedTuple):
    """Whether an attempt solves its problem.

    Attributes
    ----------
    solved
        None: not run, for example because nothing here runs the language; never a failure.
    reason
        In a word or two: "passed", "failed", "does not compile", "too slow", …
    detail
        What was printed, for a reader.
    """

    solved: bool | None
    reason: str
    detail: str = ""


class ProblemSet(Protocol):
    """A named set of problems with its marking.

    Attributes
    ----------
    key
        Hash of the problems; part of the key under which completions are stored.
    marking
        What, beside the completions, decides the verdicts; part of the key under which these are stored.
    """

    name: str
    problems: tuple[Problem, ...]
    max_new_tokens: int
    key: str

    @property
    def marking(self) -> dict[str, Any]: ...

    def check(self) -> None:
        """Whether attempts can be marked here; asked before a model writes any.

        Raises
        ------
        InputError
            If they cannot, with what to do.
        """
        ...

    def mark(
        self, attempts: Sequence[Attempt], *, advance: Callable[[int], None] = lambda done: None
    ) -> list[Verdict]:
        """One verdict per attempt; calls `advance(attempts)` on the way."""
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
        self.sets = tuple(sets)
        self.name = "+".join(asked.name for asked in sets)
        self.problems = tuple(problem for asked in sets for problem in asked.problems)
        self.max_new_tokens = max(asked.max_new_tokens for asked in sets)
        self.key = digest([asked.key for asked in sets])

    @property
    def marking(self) -> dict[str, Any]:
        """Of every set."""
        return {asked.name: asked.marking for asked in self.sets}

    def check(self) -> None:
        """Of every set."""
        for asked in self.sets:
            asked.check()

    def mark(
        self, attempts: Sequence[Attempt], *, advance: Callable[[int], None] = lambda done: None
    ) -> list[Verdict]:
        """As each problem's own set marks it."""
        verdicts: list[Verdict | None] = [None] * len(attempts)
        for asked in self.sets:
            places = [n for n, one in enumerate(attempts) if self._by_language[one.problem.language] is asked]
            found = asked.mark([attempts[n] for n in places], advance=advance)
            for place, verdict in zip(places, found, strict=True):
                verdicts[place] = verdict
        return [verdict for verdict in verdicts if verdict is not None]
