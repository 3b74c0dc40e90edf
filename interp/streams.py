"""What measures read: running text, places right before an identifier, problems.

A stream is the same for every checkpoint of a series; reading it with the series' tokenizer happens
once per sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.interp.measure import Item, Reading
from babelscope.probes.identifiers import Probe, ProbeSet
from babelscope.probes.placement import ENOUGH, Minimum, Placement
from babelscope.probes.problems import ProblemSet


@dataclass(frozen=True)
class TextReading(Reading):
    """Windows of documents.

    Attributes
    ----------
    languages
        Names; `language` indexes them.
    language, document
        (window,) language and document of each window.
    n_bytes
        (window,) UTF-8 bytes of the window's predicted tokens (all but its first).
    """

    languages: tuple[str, ...]
    language: np.ndarray
    document: np.ndarray
    n_bytes: np.ndarray


class TextStream:
    """Held-out documents per language, the same number of tokens of each.

    Parameters
    ----------
    texts
        Documents by language.
    tokens
        Tokens to read per language, at most. If one language has fewer, that many are read of each:
        counts over unequal text are not comparable.
    window
        Documents are read in windows of this many tokens.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]], *, tokens: int = 20_000, window: int = 512):
        empty = [language for language, documents in texts.items() if not any(documents)]
        if empty or not texts:
            raise InputError(f"no held-out text for {empty or 'any language'}")
        self.texts = {language: tuple(documents) for language, documents in texts.items()}
        self.tokens = tokens
        self.window = window
        self.key = digest([self.texts, tokens, window])

    def read(self, tokenizer: Any) -> TextReading:
        windows = {language: self._windows(tokenizer, texts) for language, texts in self.texts.items()}
        available = {language: sum(len(ids) for _, ids, _ in found) for language, found in windows.items()}
        wanted = min(self.tokens, *available.values())
        items, language_of, document_of, n_bytes = [], [], [], []
        documents = 0
        for which, found in enumerate(windows.values()):
            left, last = wanted, -1
            for document, ids, sizes in found:
                kept = ids[:left]
                if len(kept) < 2:  # one token predicts nothing
                    break
                documents += document != last
                last = document
                left -= len(kept)
                items.append(Item(kept, len(items)))
                language_of.append(which)
                document_of.append(documents - 1)
                n_bytes.append(int(sizes[1 : len(kept)].sum()))
        return TextReading(
            items, tuple(windows), np.array(language_of), np.array(document_of), np.array(n_bytes)
        )

    def _windows(self, tokenizer: Any, texts: Sequence[str]) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(document, ids, bytes of each token) of every window of at least two tokens."""
        found = []
        coded = tokenizer(list(texts), return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        for document, (ids, offsets) in enumerate(
            zip(coded["input_ids"], coded["offset_mapping"], strict=True)
        ):
            ids = np.asarray(ids, dtype=np.int64)
            sizes = _bytes_of_tokens(texts[document], offsets)
            for start in range(0, len(ids), self.window):
                if len(ids[start : start + self.window]) > 1:
                    stop = start + self.window
                    found.append((document, ids[start:stop], sizes[start:stop]))
        return found


def _bytes_of_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """UTF-8 bytes each token adds; tokens that share a character count it once.

    White space that a tokenizer skips belongs to the token after it.
    """
    size = np.zeros(len(text) + 1, dtype=np.int64)
    size[1:] = np.cumsum([len(character.encode("utf-8", "surrogatepass")) for character in text])
    ends = np.maximum.accumulate(np.array([end for _, end in offsets], dtype=np.int64).reshape(-1))
    return np.diff(size[ends], prepend=0)


@dataclass(frozen=True)
class PromptReading(Reading):
    """Places right before an identifier.

    Each item ends at the token before the one that holds the identifier's first character.

    Attributes
    ----------
    probes
        The probe behind each item.
    languages, concepts
        Names; the keys of `sets`.
    sets
        Token ids that begin each (concept, language)'s identifier and no other language's.
    frequency
        (vocab,) how often each token occurs in the background text.
    dropped
        What could not be used, with the reason.
    elsewhere
        (item,) a random earlier position of the same prompt, for the null.
    """

    probes: tuple[Probe, ...]
    languages: tuple[str, ...]
    concepts: tuple[str, ...]
    sets: dict[tuple[str, str], np.ndarray]
    frequency: np.ndarray
    dropped: tuple[str, ...]
    elsewhere: np.ndarray


class PromptStream:
    """Identifier probes.

    Parameters
    ----------
    probes
        The probes of the pivot and of the targets.
    background
        Text whose token frequencies the null's random tokens are matched in.
    context
        Tokens that the model takes; a longer prompt is refused. None where nothing is to be run.
    minimum
        What the tokenizer must leave of each language.
    """

    def __init__(
        self,
        probes: ProbeSet,
        *,
        background: Mapping[str, Sequence[str]],
        context: int | None = 512,
        minimum: Minimum = ENOUGH,
    ):
        self.probes = probes
        self.background = background
        self.context = context
        self.minimum = minimum
        self.key = digest([probes.key, {name: list(texts) for name, texts in background.items()}])

    def read(self, tokenizer: Any) -> PromptReading:
        """Tokenise prompt and identifier together, as the model will meet them.

        Raises
        ------
        InputError
            If a prompt is longer than the context, or less than the minimum is left of a language.
        """
        placement = Placement(self.probes, tokenizer, context=self.context)
        long = [place for place in placement.excluded if place.kind == "too long"]
        if long:
            probe = long[0].probe
            raise InputError(
                f"{len(long)} of {len(placement.places)} prompts do not fit the model's context, first"
                f" {probe.language} {probe.concept} {probe.prompt[:24]!r}…: {long[0].reason};"
                " shorten it or leave it out"
            )
        placement.require(self.minimum)
        counts = np.zeros(len(tokenizer), dtype=np.int64)
        for texts in self.background.values():
            for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]:
                counts += np.bincount(ids, minlength=len(counts))
        asked = placement.usable
        return PromptReading(
            items=[Item(place.before, index) for index, place in enumerate(asked)],
            probes=tuple(place.probe for place in asked),
            languages=self.probes.languages,
            concepts=placement.concepts,
            sets=placement.sets,
            frequency=counts,
            dropped=tuple(map(str, placement.excluded)),
            elsewhere=np.array([_elsewhere(place.before) for place in asked]),
        )


def _elsewhere(before: np.ndarray) -> int:
    """A random earlier position, drawn by the prompt alone: the order of prompts must decide nothing."""
    return int(np.random.default_rng(before).integers(0, max(1, len(before) - 1)))


class ProblemStream:
    """Problems to be answered by generation."""

    def __init__(self, problems: ProblemSet):
        self.problems = problems
        self.key = problems.key

    def read(self, tokenizer: Any) -> Reading:
        """Every prompt as it is.

        Raises
        ------
        InputError
            If a prompt has no tokens.
        """
        coded = tokenizer(
            [problem.prompt for problem in self.problems.problems], add_special_tokens=False, verbose=False
        )
        empty = [p.id for p, ids in zip(self.problems.problems, coded["input_ids"], strict=True) if not ids]
        if empty:
            raise InputError(
                f"the prompts of problems {', '.join(empty)} are empty; a model needs a token to go on from"
            )
        return Reading([Item(np.asarray(ids, dtype=np.int64), i) for i, ids in enumerate(coded["input_ids"])])
