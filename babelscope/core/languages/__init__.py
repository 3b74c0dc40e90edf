"""What the project knows about each language, as data: one TOML file beside this one per language.

No code names a language; a new one is a new file. Templates are filled by replacing `{names}`, so that braces
of the language itself need no doubling.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from babelscope.core.config import Strict
from babelscope.core.errors import InputError

_HERE = Path(__file__).parent


class Toolchain(Strict):
    """What compiles and runs a program that is one file.

    Attributes
    ----------
    needs
        Executables that must be found.
    brought_by
        What installs them, for the message when they are missing.
    version
        The command that prints their version.
    source
        The file that a program is written to.
    compile, run
        Commands, in the folder of the source. `{entry}` is what `Tests.entry` finds.
    compile_seconds, run_seconds
        Limits of processor time, each.
    memory_mib
        Limit of each process's data.
    environment
        Variables beside those that every program gets.
    reads
        Paths that the commands read, beside /usr.
    """

    needs: tuple[str, ...] = Field(min_length=1)
    brought_by: str
    version: tuple[str, ...]
    source: str
    compile: tuple[str, ...] = ()
    run: tuple[str, ...]
    compile_seconds: float = 60
    run_seconds: float = 10
    memory_mib: int = 1024
    environment: dict[str, str] = Field(default_factory=dict)
    reads: tuple[str, ...] = ()


class Completion(Strict):
    """Where a completion of a function ends; regular expressions, `^` and `$` at every line.

    Attributes
    ----------
    opens
        The line that opens the function: its last match in the prompt. Group 1 is its indentation.
    ends_after
        The end of the function, which is kept; `{indent}` is the opening line's indentation.
    ends_before
        What can only come after the function, which is not kept.
    """

    opens: str
    ends_after: str = ""
    ends_before: tuple[str, ...] = ()


class Tests(Strict):
    """How a program shows that its tests have passed: exit code 0, the marker, no sign of failure.

    Attributes
    ----------
    marker
        The statement that prints `{first}` and `{second}` as one word: no program can know that word, since
        it is drawn anew for every run, and none that prints its own source prints it.
    main
        The function at whose end the marker goes; where there is none, it goes to the end of the file.
    needs
        What the marker needs at the top of the file.
    entry
        What names the thing to run: the last match before `main`.
    failure
        Signs of failure on stderr, for tests that print and go on; `^` and `$` at every line.
    """

    marker: str
    main: str = ""
    needs: str = ""
    entry: str = ""
    failure: tuple[str, ...] = ()


class Check(Strict):
    """A program whose tests pass, and one whose tests fail."""

    passes: str
    fails: str


class Tasks(Strict):
    """How the project's own problems are asked and tested in this language.

    Attributes
    ----------
    names
        How a language writes `run_lengths`.
    types
        Names of the types of arguments and results.
    literals
        How values are written: `{items}` of a list of `{type}`, `{text}` of a string.
    prompt, parameter, comment
        `{comments}`, `{name}`, `{parameters}`, `{returns}`; `{type}`, `{name}`; `{line}`.
    test, group, call_group, suite
        `{call}`, `{expected}`, `{test}` (its number); groups of `{tests}`, since compilers limit the size of
        a function; their calls; and all of it around `{groups}` and `{calls}`.
    """

    names: Literal["snake", "camel", "pascal"]
    comment: str
    prompt: str
    parameter: str
    test: str
    group: str
    call_group: str
    suite: str
    types: dict[str, str]
    literals: dict[str, str]


class Language(Strict):
    """One programming language.

    Attributes
    ----------
    name
        The key used everywhere: in recipes, results and file names.
    shown_as
        The name in figures and reports.
    extensions
        File name endings of its sources, with the dot.
    also
        Other names that data sets use.
    toolchains
        What runs it; the first that is installed is used.
    completion, tests, check, tasks
        See there; `tasks` is None where the project's own problems are not written in it.
    """

    name: str
    shown_as: str
    extensions: tuple[str, ...]
    also: tuple[str, ...] = ()
    toolchains: tuple[Toolchain, ...] = Field(min_length=1)
    completion: Completion
    tests: Tests
    check: Check
    tasks: Tasks | None = None


@cache
def known() -> dict[str, Language]:
    """Every language with a file, by name."""
    found = (Language.from_toml(path) for path in sorted(_HERE.glob("*.toml")))
    return {language.name: language for language in found}


def language(name: str) -> Language:
    """The language called `name`, here or in data sets; of an unknown one `InputError` lists the known."""
    if name in known():
        return known()[name]
    for found in known().values():
        if name.lower() in found.also:
            return found
    raise InputError(f"unknown language {name!r}; known are {', '.join(known())}")


def shown(name: str) -> str:
    """`name` as figures print it; a name of the user's own is printed as it is."""
    return known()[name].shown_as if name in known() else name
