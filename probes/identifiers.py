"""Identifier probes: places where two languages write the same thing with a different name.

A concept is slot-equivalent when both languages put its identifier at the same place in the code
(`len(x)` / `count($x)`); a prompt ends right before the identifier, so whichever name a hidden
state decodes to there tells whose system it is using (arXiv 2412.07298, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

from babelscope.core.errors import InputError
from babelscope.core.files import digest


@dataclass(frozen=True)
class Probe:
    """One prompt in one language: `prompt + identifier + rest` is natural code."""

    concept: str
    language: str
    prompt: str
    identifier: str
    rest: str = ""


@dataclass(frozen=True)
class ProbeSet:
    """Probes of several languages that share concepts.

    Raises
    ------
    InputError
        If there are no probes, or if a concept is named alike in every language: such a concept
        cannot tell languages apart.
    """

    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        if not self.probes:
            raise InputError("a probe set needs at least one probe; this one is empty")
        for concept in self.concepts:
            names = {language: self.identifiers(concept, language) for language in self.languages}
            spoken = [name for name in names.values() if name]
            if len(spoken) < 2:
                raise InputError(f"concept {concept!r} is probed in one language only: {names}")
            if len(set(spoken)) == 1:
                raise InputError(f"concept {concept!r} has the same identifiers everywhere: {names}")

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Languages in order of first appearance."""
        return tuple(dict.fromkeys(probe.language for probe in self.probes))

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """Concepts in order of first appearance."""
        return tuple(dict.fromkeys(probe.concept for probe in self.probes))

    def identifiers(self, concept: str, language: str) -> tuple[str, ...]:
        """Every spelling of `concept` in `language`, sorted; empty if it is not probed there."""
        return tuple(
            sorted({p.identifier for p in self.probes if (p.concept, p.language) == (concept, language)})
        )

    def of(self, *languages: str) -> ProbeSet:
        """The probes of these languages only, whose concepts at least two of them name differently.

        Raises
        ------
        InputError
            If a language has no probes, or none that tell it from the others.
        """
        missing = [language for language in languages if language not in self.languages]
        if missing:
            raise InputError(f"no probes for {missing}; probed are {list(self.languages)}")
        return shared_probes(p for p in self.probes if p.language in languages)

    @cached_property
    def key(self) -> str:
        """Hash of the content; part of the key under which results are stored."""
        return digest([asdict(probe) for probe in self.probes])


def shared_probes(probes: Iterable[Probe]) -> ProbeSet:
    """Those of `probes` whose concept has different identifiers in at least two of their languages.

    Raises
    ------
    InputError
        If a language is left without any, since it would vanish from every result.
    """
    probes = tuple(probes)
    spoken: dict[str, dict[str, set[str]]] = {}
    for probe in probes:
        spoken.setdefault(probe.concept, {}).setdefault(probe.language, set()).add(probe.identifier)
    kept = tuple(
        probe
        for probe in probes
        if len({frozenset(spellings) for spellings in spoken[probe.concept].values()}) > 1
    )
    languages = list(dict.fromkeys(probe.language for probe in probes))
    lost = [language for language in languages if language not in {probe.language for probe in kept}]
    if lost:
        others = [language for language in languages if language != lost[0]]
        common = [names for names in spoken.values() if lost[0] in names and len(names) > 1]
        how = (
            f"give the same names to all {len(common)} concepts they share" if common else "share no concept"
        )
        raise InputError(
            f"no distinguishable pairs: {lost[0]} and {', '.join(others) or 'no other language'} {how};"
            " choose another language, or write probes of concepts that they name differently"
        )
    return ProbeSet(kept)
