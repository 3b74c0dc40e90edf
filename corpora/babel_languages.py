"""The languages of the small Babel: how each writes a function, and how an answer in it is read.

"The length of a plus the total of b" is

    python    len(a) + sum(b)                     calls
    php       count($a) + array_sum($b)           calls, variables behind a sigil (`$a` is two tokens)
    racket    (+ (length a) (foldl b))            operators first
    ocaml     List.length a + List.fold_left b    juxtaposition

Built-ins are slot-equivalent and one token each. Their names are the real languages'; what they mean is
what `babel_expressions` says. Answers are parsed here and never executed.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from babelscope.corpora.babel_expressions import (
    BUILTINS,
    OPERATORS,
    VARIABLES,
    Binary,
    Call,
    Expression,
    Variable,
)

# One token: a line end; a word, with the marks that racket and ocaml have inside theirs; a two-character
# mark; a mark.
PIECE = r"\n|[A-Za-z_]\w*(?:[-.]\w+)*\??|==|=>|->|//|[^\s\w]"


def tokens(text: str) -> list[str]:
    """The tokens of `text`; spaces separate, and are none."""
    return re.findall(PIECE, text)


class MalformedError(ValueError):
    """A text is no expression of the language."""


@dataclass(frozen=True)
class Form:
    """One way to write a function down: `before` (with `{name}`), the expression, `after`."""

    before: str
    after: str = "\n"


@dataclass(frozen=True)
class Syntax(ABC):
    """One language.

    Attributes
    ----------
    name
        The language's name everywhere in the project.
    words
        Its built-ins, in the order of `babel_expressions.BUILTINS`.
    forms
        Surface forms; problems and probes are asked in the first.
    remark
        A comment, with `{text}`.
    """

    name: str
    words: tuple[str, ...]
    forms: tuple[Form, ...]
    remark: Form

    @cached_property
    def builtins(self) -> Mapping[str, str]:
        """Word by concept."""
        return dict(zip(BUILTINS, self.words, strict=True))

    @cached_property
    def concepts(self) -> Mapping[str, str]:
        """Concept by word."""
        return {word: concept for concept, word in self.builtins.items()}

    def write(self, function: str, expression: Expression, form: Form) -> str:
        """A function of that name, written down."""
        return form.before.format(name=function) + " " + self.render(expression) + form.after

    @abstractmethod
    def render(self, expression: Expression) -> str:
        """The text of `expression`."""

    def parse(self, text: str) -> Expression:
        """The expression that the whole of `text` is.

        Raises
        ------
        MalformedError
            If it is none.
        """
        reader = _Reader(tokens(text))
        expression = self._read(reader)
        if reader.peek():
            raise MalformedError(f"{reader.peek()!r} follows the expression")
        return expression

    @abstractmethod
    def _read(self, reader: _Reader) -> Expression: ...

    def _variable(self, name: str) -> Variable:
        if name not in VARIABLES:
            raise MalformedError(f"{name!r} is no variable")
        return Variable(name)


@dataclass(frozen=True)
class Infix(Syntax):
    """Operators between operands, `*` before `+` and `-`; `f(x)`, with `sigil` before variables.

    With `juxtaposed`, a call is `f x`, and an argument that is not a variable stands in parentheses.
    """

    sigil: str = ""
    juxtaposed: bool = False

    def render(self, expression: Expression) -> str:
        match expression:
            case Variable(name):
                return self.sigil + name
            case Call(concept, argument):
                inside = self.render(argument)
                bare = self.juxtaposed and isinstance(argument, Variable)
                return f"{self.builtins[concept]} {inside}" if bare else f"{self.builtins[concept]}({inside})"
            case Binary(operator, left, right):
                return f"{self._operand(left)} {operator} {self._operand(right)}"

    def _operand(self, expression: Expression) -> str:
        text = self.render(expression)
        return f"({text})" if isinstance(expression, Binary) else text

    def _read(self, reader: _Reader) -> Expression:
        return self._chain(
            reader, ("+", "-"), lambda: self._chain(reader, ("*",), lambda: self._part(reader))
        )

    @staticmethod
    def _chain(reader: _Reader, operators: tuple[str, ...], part: Callable[[], Expression]) -> Expression:
        expression = part()
        while reader.peek() in operators:
            expression = Binary(reader.take(), expression, part())
        return expression

    def _part(self, reader: _Reader) -> Expression:
        if reader.peek() not in self.concepts:
            return self._atom(reader)
        concept = self.concepts[reader.take()]
        if not self.juxtaposed and reader.peek() != "(":
            raise MalformedError(f"a call needs '(', not {reader.peek()!r}")
        return Call(concept, self._atom(reader))

    def _atom(self, reader: _Reader) -> Expression:
        if reader.peek() == "(":
            reader.take("(")
            inside = self._read(reader)
            reader.take(")")
            return inside
        if self.sigil:
            reader.take(self.sigil)
        return self._variable(reader.take())


@dataclass(frozen=True)
class Prefix(Syntax):
    """Everything but a variable in parentheses, what is done to it first."""

    def render(self, expression: Expression) -> str:
        match expression:
            case Variable(name):
                return name
            case Call(concept, argument):
                return f"({self.builtins[concept]} {self.render(argument)})"
            case Binary(operator, left, right):
                return f"({operator} {self.render(left)} {self.render(right)})"

    def _read(self, reader: _Reader) -> Expression:
        if reader.peek() != "(":
            return self._variable(reader.take())
        reader.take("(")
        head = reader.take()
        if head in OPERATORS:
            expression = Binary(head, self._read(reader), self._read(reader))
        elif head in self.concepts:
            expression = Call(self.concepts[head], self._read(reader))
        else:
            raise MalformedError(f"{head!r} is neither an operator nor a built-in")
        reader.take(")")
        return expression


class _Reader:
    """Tokens, taken one after the other."""

    def __init__(self, found: list[str]):
        self._found = found
        self._next = 0

    def peek(self) -> str:
        """The next token; empty at the end."""
        return self._found[self._next] if self._next < len(self._found) else ""

    def take(self, expected: str = "") -> str:
        found = self.peek()
        if not found or (expected and found != expected):
            raise MalformedError(f"{found!r} where {expected or 'more'} is due")
        self._next += 1
        return found


PYTHON = Infix(
    "python",
    ("len", "sum", "set", "sorted", "reversed", "next", "enumerate", "any", "all", "filter"),
    (
        Form("def {name}(a, b): return"),
        Form("{name} = lambda a, b:"),
        Form("def {name}(a: list, b: list) -> list: return"),
        Form("# {name}(a, b) is"),
        Form("assert {name}(a, b) =="),
        Form("async def {name}(a, b): return"),
        Form("def {name}(self, a, b): return"),
    ),
    remark=Form("#"),
)
PHP = Infix(
    "php",
    (
        "count",
        "array_sum",
        "array_unique",
        "asort",
        "array_reverse",
        "reset",
        "array_keys",
        "array_any",
        "array_all",
        "array_filter",
    ),
    (
        Form("function {name}($a, $b) {{ return", "; }\n"),
        Form("${name} = fn($a, $b) =>", ";\n"),
        Form("// {name}($a, $b) is"),
        Form("static function {name}($a, $b) {{ return", "; }\n"),
    ),
    remark=Form("//"),
    sigil="$",
)
RACKET = Prefix(
    "racket",
    (
        "length",
        "foldl",
        "remove-duplicates",
        "sort",
        "reverse",
        "car",
        "build-list",
        "ormap",
        "andmap",
        "filter-map",
    ),
    (
        Form("(define ({name} a b)", ")\n"),
        Form("(define {name} (lambda (a b)", "))\n"),
        Form("; {name} a b is"),
        Form("(check-equal? ({name} a b)", ")\n"),
    ),
    remark=Form(";"),
)
OCAML = Infix(
    "ocaml",
    (
        "List.length",
        "List.fold_left",
        "List.sort_uniq",
        "List.sort",
        "List.rev",
        "List.hd",
        "List.init",
        "List.exists",
        "List.for_all",
        "List.filter",
    ),
    (
        Form("let {name} a b ="),
        Form("let {name} = fun a b ->"),
        Form("(* {name} a b is", " *)\n"),
        Form("let rec {name} a b ="),
    ),
    remark=Form("(*", " *)\n"),
    juxtaposed=True,
)

LANGUAGES: dict[str, Syntax] = {language.name: language for language in (PYTHON, PHP, RACKET, OCAML)}
