"""Where one tokenizer lets probes be asked, and why not elsewhere.

A model decodes to tokens, so an identifier is measured by the token that holds its first character: the model
is asked at the token before. That works where the token is the identifier's own. Each probe that it does not
work for is left out, by one of these kinds:

    merge              the token began before the identifier: `.append`, `(len`
    fragment           the token is less than half of the identifier: " e" for "echo"
    nothing before     the token is the prompt's first: there is no place before it
    dropped character  no token holds the identifier's first character
    unknown            what holds it is the tokenizer's token for whatever it does not know
    too long           the prompt has more tokens than the model takes
    collision          the token begins another asked language's identifier of the concept too
    no partner         no second language has a usable token for the concept

The last two are judged by tokens, among the languages that are asked: Go's `string` and Python's `str`
collide in a tokenizer that begins both with "str", and in no other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from babelscope.core.errors import InputError
from babelscope.probes.identifiers import Probe, ProbeSet

Kind = Literal[
    "merge",
    "fragment",
    "nothing before",
    "dropped character",
    "unknown",
    "too long",
    "collision",
    "no partner",
]


@dataclass(frozen=True)
class Minimum:
    """What must be left of each language for its working language to be measured.

    Attributes
    ----------
    concepts
        Intervals resample concepts, and two concepts have only three different resamples. The paper
        (arXiv 2412.07298) has five.
    prompts
        Cells at each layer. Of 20, one prompt is 5 %; the paper has fifty.
    """

    concepts: int = 3
    prompts: int = 20


ENOUGH = Minimum()
ANY = Minimum(concepts=1, prompts=1)  # where identifiers are only recognised, and nothing is concluded


@dataclass(frozen=True, eq=False)
class Place:
    """One probe in one tokenizer.

    Attributes
    ----------
    before
        Ids of the tokens before the identifier's first: what the model is shown.
    token
        Id of the token that holds the identifier's first character; None if there is none.
    text
        That token as it stands in the program.
    n_tokens
        Tokens that hold some of the identifier.
    kind, reason
        Why it is left out, in one word and in a sentence; None and empty if it is asked.
    """

    probe: Probe
    before: Int[np.ndarray, " position"]
    token: int | None
    text: str
    n_tokens: int
    kind: Kind | None = None
    reason: str = ""

    def __str__(self) -> str:
        probe = self.probe
        return f"{probe.language} {probe.concept} {probe.prompt[-24:]!r}: {self.reason}"


class Placement:
    """Every probe of a set in one tokenizer: where it is asked, or why it is not.

    Parameters
    ----------
    probes
        Probes of the languages that are asked.
    tokenizer
        A fast one; offsets are needed.
    context
        Tokens that the model takes; no limit if None.

    Attributes
    ----------
    places
        Of every probe, in the order of the set.
    concepts
        Those that at least two languages can be asked about.
    sets
        Token ids that begin each (concept, language)'s identifier and no other language's, for `concepts`.
    """

    def __init__(self, probes: ProbeSet, tokenizer: Any, *, context: int | None = None):
        self.probes = probes
        found = list(_places(probes.probes, tokenizer, context))
        first: dict[tuple[str, str], set[int]] = defaultdict(set)
        for place in found:
            if place.kind is None and place.token is not None:
                first[place.probe.concept, place.probe.language].add(place.token)
        own = {
            (concept, language): tokens
            - {t for (c, o), ts in first.items() if c == concept and o != language for t in ts}
            for (concept, language), tokens in first.items()
        }
        speakers = Counter(concept for (concept, _), tokens in own.items() if tokens)
        self.concepts = tuple(concept for concept in probes.concepts if speakers[concept] > 1)
        self.sets = {
            key: np.array(sorted(tokens)) for key, tokens in own.items() if tokens and key[0] in self.concepts
        }
        self.places = tuple(self._judged(place, first, own) for place in found)

    @property
    def usable(self) -> tuple[Place, ...]:
        return tuple(place for place in self.places if place.kind is None)

    @property
    def excluded(self) -> tuple[Place, ...]:
        return tuple(place for place in self.places if place.kind is not None)

    def of(self, language: str, concept: str | None = None) -> tuple[Place, ...]:
        """The places of one language, or of one of its concepts."""
        return tuple(
            place
            for place in self.places
            if place.probe.language == language and concept in (None, place.probe.concept)
        )

    def shortfall(self, minimum: Minimum = ENOUGH) -> str:
        """What is missing to the minimum, and the main reasons; empty if nothing is."""
        left = []
        for language in self.probes.languages:
            places = self.of(language)
            asked = tuple(place for place in places if place.kind is None)
            if len(_concepts(asked)) < minimum.concepts or len(asked) < minimum.prompts:
                left.append(
                    f"{language} {len(_concepts(asked))} of {len(_concepts(places))} concepts and"
                    f" {len(asked)} of {len(places)} prompts"
                )
        if not left:
            return ""
        why = f"; left out: {'; '.join(self.reasons())}" if self.excluded else ""
        return (
            f"only {', '.join(left)} can be asked with this tokenizer, and each language needs"
            f" {minimum.concepts} concepts and {minimum.prompts} prompts{why}"
        )

    def require(self, minimum: Minimum = ENOUGH) -> None:
        """Refuse what could not be measured.

        Raises
        ------
        InputError
            If less than the minimum is left of a language.
        """
        if shortfall := self.shortfall(minimum):
            raise InputError(
                f"{shortfall}. Add probes whose identifiers begin with a token of their own, in a TOML file"
                " (docs/probes.md); `babelscope probes` shows what a tokenizer leaves"
            )

    def reasons(self, *, at_most: int = 3) -> list[str]:
        """The commonest kinds of exclusion with their counts and an example each.

        "no partner" comes last, since it follows from what was left out of the other language.
        """
        kinds = Counter(place.kind for place in self.excluded)
        ranked = sorted(kinds, key=lambda kind: (kind == "no partner", -kinds[kind]))
        examples = {place.kind: place for place in reversed(self.excluded)}
        return [f"{kinds[kind]} {kind} ({examples[kind]})" for kind in ranked[:at_most]]

    def _judged(
        self,
        place: Place,
        first: dict[tuple[str, str], set[int]],
        own: dict[tuple[str, str], set[int]],
    ) -> Place:
        """`place`, left out if its token tells no language from another."""
        concept, language = place.probe.concept, place.probe.language
        if place.kind is not None:
            return place
        if place.token not in own[concept, language]:
            others = [
                o for (c, o), ts in first.items() if c == concept and o != language and place.token in ts
            ]
            reason = f"the token {place.text!r} begins the identifier of {' and '.join(others)} too"
            return replace(place, kind="collision", reason=reason)
        if concept not in self.concepts:
            reason = f"no other language has a usable token for {concept}"
            return replace(place, kind="no partner", reason=reason)
        return place


def _places(probes: Sequence[Probe], tokenizer: Any, context: int | None) -> Iterator[Place]:
    """Each probe by itself."""
    texts = [probe.prompt + probe.identifier + probe.rest for probe in probes]
    coded = tokenizer(texts, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    for probe, text, ids, offsets in zip(
        probes, texts, coded["input_ids"], coded["offset_mapping"], strict=True
    ):
        start = len(probe.prompt)
        stop = start + len(probe.identifier)
        n_tokens = sum(begin < stop and end > start for begin, end in offsets)
        position = next((i for i, (begin, end) in enumerate(offsets) if begin <= start < end), None)
        if position is None:
            reason = f"the tokenizer drops the first character of {probe.identifier!r}"
            nowhere = np.array([], dtype=np.int64)
            yield Place(probe, nowhere, None, "", n_tokens, "dropped character", reason)
            continue
        begin, end = offsets[position]
        before = np.array(ids[:position], dtype=np.int64)
        place = Place(probe, before, int(ids[position]), text[begin:end], n_tokens)
        if place.token == tokenizer.unk_token_id:
            # Byte-level tokenizers may name such a token too, but never give it.
            reason = f"the tokenizer does not know {place.text!r}"
            yield replace(place, kind="unknown", reason=reason)
        elif text[begin:start].strip():
            reason = f"the token {place.text!r} holds more than the beginning of {probe.identifier!r}"
            yield replace(place, kind="merge", reason=reason)
        elif 2 * (end - start) < len(probe.identifier):
            # A column such as " e" for "echo" would count every word with that beginning.
            reason = f"the token {place.text!r} is less than half of {probe.identifier!r}"
            yield replace(place, kind="fragment", reason=reason)
        elif position == 0:
            reason = f"{place.text!r} is the first token; a prompt must come before it"
            yield replace(place, kind="nothing before", reason=reason)
        elif context is not None and len(before) > context:
            reason = f"the prompt has {len(before)} tokens, the model takes {context}"
            yield replace(place, kind="too long", reason=reason)
        else:
            yield place


def _concepts(places: Sequence[Place]) -> set[str]:
    return {place.probe.concept for place in places}
