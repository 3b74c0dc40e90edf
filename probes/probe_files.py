r"""Identifier probes of real languages, as data: one TOML file per language in `data/`.

    language = "php"

    [[concepts]]
    name = "length"           # aligns languages: the same slot in the code
    identifier = "count"      # this language's word for it
    prompts = [["<?php\n$n = ", "($rows);\n"]]    # text before the identifier, text after it

A new language is a new file; users' own files have the same format, and may add to a language that is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.probes.identifiers import Probe, ProbeSet, shared_probes

_DATA = Path(__file__).parent / "data"

_Text = Annotated[str, Field(min_length=1)]
_Word = Annotated[str, Field(pattern=r"^\S+$")]


class _Concept(Strict):
    name: _Text
    identifier: _Word
    prompts: Annotated[tuple[tuple[_Text, str], ...], Field(min_length=1)]


class _Probes(Strict):
    language: _Text
    concepts: Annotated[tuple[_Concept, ...], Field(min_length=1)]


def probed_languages() -> dict[str, Path]:
    """The languages that come with probes, and their files."""
    return {path.stem: path for path in sorted(_DATA.glob("*.toml"))}


def read_probes(path: Path) -> tuple[Probe, ...]:
    """The probes of one language's file, in its order.

    Raises
    ------
    InputError
        If the file cannot be read, holds an unknown key or an empty text, names a concept twice, or gives
        a prompt twice: one place in a text asks for one name.
    """
    file = _Probes.from_toml(path)
    for name, times in Counter(concept.name for concept in file.concepts).items():
        if times > 1:
            raise InputError(f"{path}: concept {name!r} is given {times} times; join them or rename one")
    asked: dict[str, str] = {}
    for concept in file.concepts:
        for prompt, _ in concept.prompts:
            if prompt in asked:
                raise InputError(
                    f"{path}: prompt {prompt!r} is given twice, for {asked[prompt]!r} and for"
                    f" {concept.name!r}; remove or extend one"
                )
            asked[prompt] = concept.name
    return tuple(
        Probe(concept.name, file.language, prompt, concept.identifier, rest)
        for concept in file.concepts
        for prompt, rest in concept.prompts
    )


def read_probe_files(paths: Iterable[Path]) -> tuple[Probe, ...]:
    """The probes of several files; one may add concepts, spellings and prompts to another's language.

    Raises
    ------
    InputError
        If a file is refused by `read_probes`, or two files give a language the same prompt.
    """
    found: list[Probe] = []
    asked: dict[tuple[str, str], Path] = {}
    for path in paths:
        for probe in read_probes(path):
            place = probe.language, probe.prompt
            if place in asked:
                raise InputError(
                    f"{path}: prompt {probe.prompt!r} of {probe.language} {probe.concept!r} is given by"
                    f" {asked[place]} already; remove or extend one"
                )
            asked[place] = path
            found.append(probe)
    return tuple(found)


def probes_of(languages: Sequence[str], own: Sequence[Path] = ()) -> tuple[Probe, ...]:
    """The probes that come with `languages`, and those of the user's own files in them.

    Raises
    ------
    InputError
        If a language has none, or a file is refused.
    """
    files = probed_languages()
    known = [files[language] for language in dict.fromkeys(languages) if language in files]
    found = [probe for probe in read_probe_files([*known, *own]) if probe.language in languages]
    missing = [language for language in languages if language not in {probe.language for probe in found}]
    if missing:
        raise InputError(
            f"no probes come with {', '.join(map(repr, missing))}; they come with {', '.join(files)}."
            " Write a file of them (docs/probes.md) and name it: --probes FILE, or `probes = [...]` in"
            " questions.toml"
        )
    for added in read_probe_files(own):
        naming = {probe.language for probe in found if probe.concept == added.concept}
        if naming == {added.language}:
            raise InputError(
                f"concept {added.concept!r} of your own is named in {added.language} alone; give its"
                f" identifier in another of {list(languages)} too, or leave it out"
            )
    return tuple(found)


def known_probes(*languages: str) -> ProbeSet:
    """The probes that come with `languages`, as far as at least two of them share the concept.

    Raises
    ------
    InputError
        If fewer than two different languages are given, or one comes without probes.
    """
    found = probes_of(languages)
    if len(set(languages)) < 2:
        raise InputError(f"probes compare at least two languages; given: {list(languages)}")
    return shared_probes(found)
