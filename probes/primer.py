"""The primer: this project's own problems, the same in ten languages, so that evaluation needs no download.

One TOML file per problem, in `data/primer`: what it asks, its tests, where inputs come from, and a
solution in each language. How a problem is asked and tested in a language is its `[tasks]`
(`babelscope.core.languages`), so that every problem is worded, typed and tested alike everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import Tasks, known, language
from babelscope.probes.code import CodeProblem, trimmed
from babelscope.probes.completions import ends
from babelscope.probes.mutants import Mutant, mutants
from babelscope.probes.problems import Problem

DATA = Path(__file__).parent / "data" / "primer"
INPUTS = 1000  # of a problem's generator, on which solutions are compared
GROUP = 20  # tests in a function: Java's may hold 64 kB
PLAIN = re.compile(r"(?:[A-Za-z0-9 ()\[\]{}<>.,:;!?'*/+=&|_-]|#(?!\{))*")  # written alike in all languages

Type = Literal["int", "bool", "str", "list[int]", "list[str]", "list[list[int]]"]
Value = Any  # int, bool, str, or lists of them, as JSON has them


class Source(Strict):
    """Where an argument's values come from: one of `integer` (both ends included), `boolean`, `string` (its
    alphabet) and `list_of`; the latter two with a `length` (both ends included), lists perhaps `ascending` or
    `distinct`."""

    integer: tuple[int, int] | None = None
    boolean: Literal[True] | None = None
    string: str | None = None
    list_of: Source | None = None
    length: tuple[int, int] = (0, 8)
    ascending: bool = False
    distinct: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        if sum(kind is not None for kind in (self.integer, self.boolean, self.string, self.list_of)) != 1:
            raise ValueError("an input is one of integer, boolean, string, list_of")
        return self

    def draw(self, rng: np.random.Generator) -> Value:
        """A value."""
        if self.integer is not None:
            return int(rng.integers(self.integer[0], self.integer[1] + 1))
        if self.boolean:
            return bool(rng.integers(2))
        length = int(rng.integers(self.length[0], self.length[1] + 1))
        if self.string is not None:
            return "".join(self.string[i] for i in rng.integers(len(self.string), size=length))
        values = [self.list_of.draw(rng) for _ in range(length)] if self.list_of else []
        if self.distinct:
            values = [value for place, value in enumerate(values) if value not in values[:place]]
        return sorted(values) if self.ascending else values


class Example(Strict):
    """Arguments and what the function returns for them."""

    given: tuple[Value, ...]
    gives: Value


class Task(Strict):
    """One problem.

    Attributes
    ----------
    name
        Of the function, as Python writes it.
    asks
        What the function does, in words that hold in every language; the first two tests are shown below it.
    parameters
        Name and type of each argument, in order.
    inputs
        Where each argument's values come from. The function must be right for all of them.
    tests
        Every completion is tested on these.
    solutions
        What comes after the prompt, by language, with what closes the function.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    asks: str
    parameters: dict[str, Type]
    returns: Type
    inputs: dict[str, Source]
    tests: tuple[Example, ...] = ()
    solutions: dict[str, str]

    @field_validator("tests")
    @classmethod
    def _plain(cls, tests: tuple[Example, ...]) -> tuple[Example, ...]:
        for text in _strings([[*test.given, test.gives] for test in tests]):
            if not PLAIN.fullmatch(text):
                raise ValueError(f"the string {text!r} is not written alike in every language")
        return tests

    @model_validator(mode="after")
    def _complete(self) -> Task:
        if list(self.parameters) != list(self.inputs):
            raise ValueError(
                f"inputs are given for {list(self.inputs)}, parameters are {list(self.parameters)}"
            )
        return self

    def draw(self, number: int = INPUTS, *, seed: int = 0) -> Iterator[list[Value]]:
        """Arguments, `number` times; the same for one seed."""
        rng = np.random.default_rng(seed)
        for _ in range(number):
            yield [source.draw(rng) for source in self.inputs.values()]

    def prompt(self, language_name: str) -> str:
        """Comment and opening of the function, up to where its body begins."""
        syntax = _syntax(language_name)
        name = _cased(self.name, syntax.names)
        comments = [
            self.asks,
            *(f"{self._call(syntax, t)} gives {self._expected(syntax, t)}" for t in self.tests[:2]),
        ]
        parameters = (
            _fill(syntax.parameter, type=syntax.types[kind], name=_cased(parameter, _inner(syntax.names)))
            for parameter, kind in self.parameters.items()
        )
        return _fill(
            syntax.prompt,
            comments="\n".join(_fill(syntax.comment, line=line) for line in comments),
            parameters=", ".join(parameters),
            returns=syntax.types[self.returns],
            name=name,
        )

    def suite(self, language_name: str, tests: Sequence[Example] | None = None) -> str:
        """What follows the function: all of its tests, or others."""
        syntax = _syntax(language_name)
        lines = [
            _fill(
                syntax.test,
                test=str(number),
                call=self._call(syntax, test),
                expected=self._expected(syntax, test),
            )
            for number, test in enumerate(self.tests if tests is None else tests, start=1)
        ]
        groups = ["\n".join(lines[start : start + GROUP]) for start in range(0, len(lines), GROUP)]
        return _fill(
            syntax.suite,
            groups="\n".join(
                _fill(syntax.group, number=str(n), tests=some) for n, some in enumerate(groups, 1)
            ),
            calls="\n".join(_fill(syntax.call_group, number=str(n)) for n, _ in enumerate(groups, 1)),
        )

    def _call(self, syntax: Tasks, test: Example) -> str:
        written = (
            _literal(syntax, kind, v) for kind, v in zip(self.parameters.values(), test.given, strict=True)
        )
        return f"{_cased(self.name, syntax.names)}({', '.join(written)})"

    def _expected(self, syntax: Tasks, test: Example) -> str:
        return _literal(syntax, self.returns, test.gives)


@cache
def tasks() -> dict[str, Task]:
    """Every problem of the primer, by name."""
    found = (Task.from_toml(path) for path in sorted(DATA.glob("*.toml")))
    return {task.name: task for task in found}


def task_languages() -> tuple[str, ...]:
    """Languages that the primer is written in."""
    return tuple(name for name, found in known().items() if found.tasks)


def primer(languages: Sequence[str]) -> list[CodeProblem]:
    """Every problem in each of the languages.

    Raises
    ------
    InputError
        If the primer is not written in one of them.
    """
    return [_problem(task, language(name).name) for name in languages for task in tasks().values()]


def _problem(task: Task, language_name: str) -> CodeProblem:
    prompt = task.prompt(language_name)
    after, before = ends(language_name, prompt)
    return trimmed(
        CodeProblem(
            Problem(f"primer/{task.name}", language_name, prompt, ends_after=after, ends_before=before),
            source="primer",
            tests=task.suite(language_name),
            solution=task.solutions[language_name],
        )
    )


def _syntax(language_name: str) -> Tasks:
    syntax = language(language_name).tasks
    if syntax is None:
        raise InputError(
            f"the primer is not written in {language_name!r}; it is in {', '.join(task_languages())}"
        )
    return syntax


def _literal(syntax: Tasks, kind: str, value: Value) -> str:
    if kind == "bool":
        return syntax.literals.get(json.dumps(value), json.dumps(value))
    if kind == "int":
        return str(value)
    if kind == "str":
        return _fill(syntax.literals.get("str", '"{text}"'), text=value)
    item = kind.removeprefix("list[").removesuffix("]")
    items = ", ".join(_literal(syntax, item, one) for one in value)
    return _fill(syntax.literals["list"], type=syntax.types[kind], items=items)


def _fill(template: str, **values: str) -> str:
    """The template with its `{names}` replaced, once each: what is filled in is not read again."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


def _cased(name: str, style: str) -> str:
    first, *others = name.split("_")
    if style == "snake":
        return name
    return (first.capitalize() if style == "pascal" else first) + "".join(
        word.capitalize() for word in others
    )


def _inner(style: str) -> str:
    """How arguments are written where functions are written in `style`."""
    return "camel" if style == "pascal" else style


def _strings(values: Sequence[Value]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from _strings(value)


def broken(task: Task, language_name: str) -> list[Mutant]:
    """Minimally broken copies of the task's solution: prompt and all."""
    syntax = _syntax(language_name)
    prompt = task.prompt(language_name)
    instead = {"int": (0, 1), "bool": (False, True), "str": ("", "a")}.get(task.returns, ([],))
    # The method's closing brace closes it, the class's is missing: trees of both are found all the same.
    return mutants(
        language_name,
        prompt + task.solutions[language_name],
        start=len(prompt),
        returned=tuple(_literal(syntax, task.returns, value) for value in instead),
    )
