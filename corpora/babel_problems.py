"""Questions to the small Babel: "write the function of this name", marked by the answer's value.

A function exists only in the pivot ("pivot only"), in every language ("both") or in the targets only
("target only"), and may be asked in any language. An answer is solved if it parses in the language it
was asked in and takes the right value on every input of `babel_expressions.INPUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from babelscope.core.files import digest
from babelscope.corpora.babel_expressions import Expression, signature
from babelscope.corpora.babel_languages import MalformedError, Syntax, tokens
from babelscope.probes.problems import Attempt, Problem, Verdict


class BabelProblems:
    """A `babelscope.probes.problems.ProblemSet`.

    Parameters
    ----------
    name
        What results call it.
    syntax
        The language it is asked in.
    functions
        Name, group and true expression of each function, in the order of the problems.
    """

    def __init__(self, name: str, syntax: Syntax, functions: Sequence[tuple[str, str, Expression]]):
        self.name = name
        self.syntax = syntax
        before, after = syntax.forms[0].before, syntax.forms[0].after
        self.problems = tuple(
            Problem(function, syntax.name, before.format(name=function), group, ("\n",))
            for function, group, _ in functions
        )
        # Tokens of the longest true answer, and some to spare for one put differently.
        self.max_new_tokens = 4 + max(len(tokens(syntax.render(truth) + after)) for _, _, truth in functions)
        truths = [[function, group, syntax.render(truth)] for function, group, truth in functions]
        self.key = digest([[asdict(problem) for problem in self.problems], truths, self.max_new_tokens])
        self._truth = {function: signature(truth) for function, _, truth in functions}

    @property
    def marking(self) -> dict[str, Any]:
        """Its version."""
        return {"marking": MARKING}

    def check(self) -> None:
        """Comparing values needs nothing."""

    def mark(
        self, attempts: Sequence[Attempt], *, advance: Callable[[int], None] = lambda done: None
    ) -> list[Verdict]:
        """An attempt is solved if its first line is an expression of the true value, and closes the form."""
        advance(len(attempts))
        return [self._verdict(one) for one in attempts]

    def _verdict(self, attempt: Attempt) -> Verdict:
        closing = tokens(self.syntax.forms[0].after.rstrip("\n"))
        answer = tokens(attempt.completion.partition("\n")[0])
        if closing and answer[-len(closing) :] != closing:
            return Verdict(False, "not closed")
        answer = answer[: len(answer) - len(closing)]
        try:
            solved = signature(self.syntax.parse(" ".join(answer))) == self._truth[attempt.problem.id]
        except MalformedError as error:
            return Verdict(False, "malformed", str(error))
        return Verdict(solved, "passed" if solved else "another value")


MARKING = 1  # part of the key: to be raised whenever verdicts or the inputs change
