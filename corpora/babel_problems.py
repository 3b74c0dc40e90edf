"""Questions to the small Babel: "write the function of this name", marked by the answer's value.

A function exists only in the pivot ("pivot only"), in every language ("both") or in the targets only
("target only"), and may be asked in any language. An answer is solved if it parses in the language it
was asked in and takes the right value on every input of `babel_expressions.INPUTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from babelscope.core.files import digest
from babelscope.corpora.babel_expressions import Expression, signature
from babelscope.corpora.babel_languages import MalformedError, Syntax, tokens
from babelscope.probes.problems import Problem


@dataclass(frozen=True)
class BabelProblems:
    """A `babelscope.probes.problems.ProblemSet`.

    Attributes
    ----------
    name
        What results call it.
    syntax
        The language it is asked in.
    functions
        Name, group and true expression of each function, in the order of the problems.
    """

    name: str
    syntax: Syntax
    functions: tuple[tuple[str, str, Expression], ...]

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        before = self.syntax.forms[0].before
        return tuple(
            Problem(function, self.syntax.name, before.format(name=function), group, ("\n",))
            for function, group, _ in self.functions
        )

    @cached_property
    def max_new_tokens(self) -> int:
        """Tokens of the longest true answer, and some to spare for one put differently."""
        after = self.syntax.forms[0].after
        return 4 + max(len(tokens(self.syntax.render(truth) + after)) for _, _, truth in self.functions)

    @cached_property
    def key(self) -> str:
        truths = [[name, group, self.syntax.render(truth)] for name, group, truth in self.functions]
        return digest([[asdict(problem) for problem in self.problems], truths, self.max_new_tokens, MARKING])

    def solved(self, problem: Problem, completion: str) -> bool:
        """Whether the completion's first line is an expression of the true value, and closes the form."""
        closing = tokens(self.syntax.forms[0].after.rstrip("\n"))
        answer = tokens(completion.partition("\n")[0])
        if closing and answer[-len(closing) :] != closing:
            return False
        answer = answer[: len(answer) - len(closing)]
        try:
            return signature(self.syntax.parse(" ".join(answer))) == self._truth[problem.id]
        except MalformedError:
            return False

    @cached_property
    def _truth(self) -> Mapping[str, object]:
        return {name: signature(truth) for name, _, truth in self.functions}


MARKING = 1  # part of the key: to be raised whenever `solved` or the inputs change
