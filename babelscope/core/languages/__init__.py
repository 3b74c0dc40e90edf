"""What the project knows about each language, as data: one TOML file beside this one per language.

No code names a language; a new one is a new file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from babelscope.core.config import Strict
from babelscope.core.errors import InputError

_HERE = Path(__file__).parent


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
    """

    name: str
    shown_as: str
    extensions: tuple[str, ...]


@cache
def known() -> dict[str, Language]:
    """Every language with a file, by name."""
    found = (Language.from_toml(path) for path in sorted(_HERE.glob("*.toml")))
    return {language.name: language for language in found}


def language(name: str) -> Language:
    """The language called `name`; an unknown one is an `InputError` that lists the known."""
    try:
        return known()[name]
    except KeyError:
        raise InputError(f"unknown language {name!r}; known are {', '.join(known())}") from None


def shown(name: str) -> str:
    """`name` as figures print it; a name of the user's own is printed as it is."""
    return known()[name].shown_as if name in known() else name
