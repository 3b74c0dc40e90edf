"""What functions of the small Babel compute, whichever language they are written in.

A value is a vector of integers. Built-ins take one vector; operators work element by element, the
shorter vector repeated (R's recycling rule). All of them are total, so that every well-formed answer
has a value: answers are marked by it, and never by their spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

Value = tuple[int, ...]

VARIABLES = ("a", "b")

OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
}

BUILTINS: dict[str, Callable[[Value], Value]] = {
    "length": lambda v: (len(v),),
    "total": lambda v: (sum(v),),
    "distinct": lambda v: tuple(dict.fromkeys(v)),
    "ascending": lambda v: tuple(sorted(v)),
    "backwards": lambda v: v[::-1],
    "first": lambda v: v[:1],
    "indices": lambda v: tuple(range(len(v))),
    "some": lambda v: (int(any(v)),),
    "every": lambda v: (int(all(v)),),
    "nonzero": lambda v: tuple(x for x in v if x),
}

# Vectors of unequal lengths with repeats, zeros and both signs: what two built-ins do alike on one of
# these they do differently on another.
INPUTS: tuple[Mapping[str, Value], ...] = (
    {"a": (3, 1, 3, 7), "b": (2, 0, 5)},
    {"a": (0, 4), "b": (6, 6, 1, 9, 2)},
    {"a": (5, 0, 8, 5, 1), "b": (4, 3)},
    {"a": (-2, 9, 4), "b": (0, 0, 0, 7)},
    {"a": (0, 0, 0), "b": (11, -5, 11, 3)},
)


@dataclass(frozen=True)
class Variable:
    """An argument of the function."""

    name: str


@dataclass(frozen=True)
class Call:
    """A built-in, named by its concept, of one argument."""

    concept: str
    argument: Expression


@dataclass(frozen=True)
class Binary:
    """Two expressions under an operator."""

    operator: str
    left: Expression
    right: Expression


Expression = Variable | Call | Binary


def evaluate(expression: Expression, variables: Mapping[str, Value]) -> Value:
    """The value of `expression` where its arguments are `variables`.

    >>> evaluate(Binary("+", Call("length", Variable("a")), Variable("b")), {"a": (7, 7), "b": (1, 5)})
    (3, 7)
    """
    match expression:
        case Variable(name):
            return variables[name]
        case Call(concept, argument):
            return BUILTINS[concept](evaluate(argument, variables))
        case Binary(operator, left, right):
            one, other = evaluate(left, variables), evaluate(right, variables)
            if not one or not other:
                return ()
            size = max(len(one), len(other))
            return tuple(map(OPERATORS[operator], islice(cycle(one), size), islice(cycle(other), size)))


def signature(expression: Expression) -> tuple[Value, ...]:
    """Values on all of `INPUTS`: expressions that agree on them count as the same function."""
    return tuple(evaluate(expression, variables) for variables in INPUTS)
