"""Problems: a prompt, and a rule that says whether a completion solves it.

What marks a completion (running it, comparing values) belongs to the problem set, so that scores
of any kind are solved-or-not per problem and every analysis of them is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


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
    """A named set of problems with its marking."""

    name: str
    problems: tuple[Problem, ...]
    max_new_tokens: int

    @property
    def key(self) -> str:
        """Hash of problems and marking; part of the key under which results are stored."""
        ...

    def solved(self, problem: Problem, completion: str) -> bool:
        """Whether `completion` (cut at the first stop string) solves `problem`."""
        ...
