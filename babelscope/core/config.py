"""Configuration: TOML into pydantic models that forbid unknown keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from babelscope.core.errors import InputError
from babelscope.core.files import read_toml


class Strict(BaseModel):
    """A frozen document; an unknown or mistyped key is an `InputError` that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, document: Any, *, origin: str) -> Self:
        """Validate `document`; `origin` (a path, say) opens the message when it is refused."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problems = "; ".join(_in_words(problem) for problem in error.errors())
            raise InputError(f"{origin}: {problems}") from None

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read and validate a TOML file."""
        return cls.parse(read_toml(path), origin=str(path))


def _in_words(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "document"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r} (is it misspelt?)"
    if problem["type"] == "missing":
        return f"{where!r} is missing"
    if problem["type"] == "value_error":  # our own words, about more than one key
        return str(problem["ctx"]["error"])
    return f"{where!r} = {problem.get('input')!r}: {problem['msg']}"
