"""Identifier probes: places where two languages write the same thing with a different name.

A concept is slot-equivalent when both languages put its identifier at the same place in the code
(`len(x)` / `count($x)`); a prompt ends right before the identifier, so whichever name a hidden
state decodes to there tells whose system it is using (arXiv 2412.07298, section 3.3).
"""

from __future__ import annotations

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
        """The probes of these languages only.

        Raises
        ------
        InputError
            If a language has no probes.
        """
        missing = [language for language in languages if language not in self.languages]
        if missing:
            raise InputError(f"no probes for {missing}; probed are {list(self.languages)}")
        return ProbeSet(tuple(p for p in self.probes if p.language in languages))

    @cached_property
    def key(self) -> str:
        """Hash of the content; part of the key under which results are stored."""
        return digest([asdict(probe) for probe in self.probes])
