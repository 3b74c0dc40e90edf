"""Exporters: one `Mix` in the syntax of a training stack, in the unit that stack counts.

A weight means nothing without its unit. Interleaving documents of mean length m_k with the token shares p_k
as probabilities gives other token shares; what gives p_k back is

    q_k = (p_k / m_k) / Σ_j (p_j / m_j)        probability per document, for stacks that draw documents

and q_k = p_k for stacks that draw sequences of one length. So every format states its unit, where its syntax
was read, and whether what is written was checked with the stack's own code.

A new format is one new file beside this one that holds an `EXPORT`; nothing else is edited.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from babelscope.core.errors import InputError
from babelscope.corpora.mix import Mix


@dataclass(frozen=True)
class Export:
    """One format.

    Parameters
    ----------
    name
        What the user asks for.
    unit
        What one draw is, and so what the weights are shares of.
    source
        Where the syntax was read: project, version, file.
    verified
        How what is written was checked with the stack's own code; None: unverified.
    endings
        Endings of the file's name, any one of which it must have.
    write
        `write(mix, path, *, …)` writes the file and returns notes: the conversion to the unit, what was left
        out, what must be built beforehand. The keyword-only parameters are the format's options.
    """

    name: str
    unit: str
    source: str
    verified: str | None
    endings: tuple[str, ...]
    write: Callable[..., list[str]]

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """Its options by name."""
        parameters = inspect.signature(self.write).parameters.items()
        return {name: option for name, option in parameters if option.kind is option.KEYWORD_ONLY}

    def check(self, path: Path, options: Mapping[str, Any]) -> None:
        """`InputError` where `options` has one that this format lacks, or lacks one that it needs."""
        if path.suffix not in self.endings:
            *others, last = self.endings
            listed = f"{', '.join(others)} or {last}" if others else last
            raise InputError(f"{path}: a file for {self.name} ends in {listed}; name it so")
        if unknown := sorted(set(options) - set(self.options)):
            known = ", ".join(self.options) or "none"
            raise InputError(f"{self.name} has no option {unknown[0]!r}; its options are: {known}")
        for name, option in self.options.items():
            if option.default is option.empty and name not in options:
                raise InputError(f"{self.name} needs the option {name!r}")


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Parameters
    ----------
    path
        The file.
    format
        What it is written in.
    notes
        What the user must know to use it, one line each; files that can hold comments hold them, too.
    """

    path: Path
    format: Export
    notes: tuple[str, ...]


@cache
def formats() -> Mapping[str, Export]:
    """Every format by name: the `EXPORT` of each module of this package whose name is public."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_")
    found: list[Export] = [import_module(f"{__name__}.{name}").EXPORT for name in modules]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def format_named(name: str) -> Export:
    """The format called `name`; `InputError` lists the known ones."""
    if name not in formats():
        raise InputError(f"unknown export format {name!r}; the formats are: {', '.join(formats())}")
    return formats()[name]


def export(mix: Mix, format: str, path: Path, **options: Any) -> Exported:
    """Write `mix` for the stack called `format`; the file is whole or absent, one that was there is replaced.

    Parameters
    ----------
    format
        One of `formats()`.
    path
        The file to write.
    **options
        The format's own options, for example `sources`: where each language's data is.

    Returns
    -------
    Exported
        The file, with what to know before it is used.

    Raises
    ------
    InputError
        For an unknown format (the known ones are listed), an ending or an option that it does not have, an
        option that it needs, or a language of the mix without a source.
    """
    chosen = format_named(format)
    path = Path(path)
    chosen.check(path, options)
    return Exported(path, chosen, tuple(chosen.write(mix, path, **options)))
