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
    write
        `write(mix, path, *, …)`; the keyword-only parameters are the format's options.
    """

    name: str
    unit: str
    source: str
    verified: str | None
    write: Callable[..., None]

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """Its options by name."""
        parameters = inspect.signature(self.write).parameters.items()
        return {name: option for name, option in parameters if option.kind is option.KEYWORD_ONLY}

    def check(self, options: Mapping[str, Any]) -> None:
        """`InputError` where `options` has one that this format lacks, or lacks one that it needs."""
        if unknown := sorted(set(options) - set(self.options)):
            known = ", ".join(self.options) or "none"
            raise InputError(f"{self.name} has no option {unknown[0]!r}; its options are: {known}")
        for name, option in self.options.items():
            if option.default is option.empty and name not in options:
                raise InputError(f"{self.name} needs the option {name!r}")


@cache
def formats() -> Mapping[str, Export]:
    """Every format by name: the `EXPORT` of each module of this package."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: list[Export] = [import_module(f"{__name__}.{name}").EXPORT for name in names]
    return {one.name: one for one in found}


def export(mix: Mix, format: str, path: Path, **options: Any) -> Path:
    """Write `mix` for the stack called `format`; the file is whole or absent.

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
    Path
        `path`.

    Raises
    ------
    InputError
        For an unknown format (the known ones are listed), an option that it lacks or needs, or a language of
        the mix without a source.
    """
    if format not in formats():
        raise InputError(f"unknown export format {format!r}; the formats are: {', '.join(formats())}")
    chosen = formats()[format]
    chosen.check(options)
    chosen.write(mix, path, **options)
    return path


def drawn(mix: Mix, given: Mapping[str, Any], *, what: str) -> list[str]:
    """Languages of the mix with a weight above 0, in its order, each of which `given` must name.

    Raises
    ------
    InputError
        If `given` lacks one of them, or names one that the mix does not; `what` says what was given.
    """
    if unknown := [language for language in given if language not in mix.languages]:
        listed = ", ".join(mix.languages)
        raise InputError(f"{what} is given for {unknown[0]!r}, but the mix has only: {listed}")
    wanted = [language for language, weight in mix.weights.items() if weight > 0]
    if missing := [language for language in wanted if language not in given]:
        raise InputError(f"no {what} is given for {missing[0]!r}; the mix draws from: {', '.join(wanted)}")
    return wanted


def header(mix: Mix, one: Export) -> str:
    """Comment lines that open an exported file: what it is, its unit, how sure the mix and the syntax are."""
    share = ", ".join(f"{language} {weight:.4g}" for language, weight in mix.weights.items())
    lines = [
        f"Share of the training tokens: {share} ({mix.method}).",
        *mix.verdict.splitlines(),
        f"Format {one.name}; unit: {one.unit}.",
        f"Syntax: {one.source}.",
        f"Checked: {one.verified or 'not (unverified)'}.",
    ]
    return "".join(f"# {line}\n" for line in lines)
