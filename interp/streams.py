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
        Tokens that the model takes; of a longer prompt it sees the end.
    """

    def __init__(self, probes: ProbeSet, *, background: Mapping[str, Sequence[str]], context: int = 512):
        self.probes = probes
        self.background = background
        self.context = context
        self.key = digest([probes.key, {name: list(texts) for name, texts in background.items()}, context])

    def read(self, tokenizer: Any) -> PromptReading:
        """Tokenise prompt and identifier together, as the model will meet them.

        Raises
        ------
        InputError
            If no concept is left with a token of its own in two languages.
        """
        placed: list[tuple[Probe, np.ndarray, int]] = []
        dropped: list[str] = []
        first: dict[tuple[str, str], set[int]] = {}
        for probe in self.probes.probes:
            ids, reason = _up_to_identifier(tokenizer, probe)
            if reason:
                dropped.append(f"{probe.language} {probe.concept} {probe.prompt[-24:]!r}: {reason}")
                continue
            placed.append((probe, ids[:-1][-self.context :], int(ids[-1])))
            first.setdefault((probe.concept, probe.language), set()).add(int(ids[-1]))
        sets: dict[tuple[str, str], np.ndarray] = {}
        for (concept, language), tokens in first.items():
            others = {t for (c, o), ts in first.items() if c == concept and o != language for t in ts}
            if tokens - others:
                sets[concept, language] = np.array(sorted(tokens - others))
            else:
                dropped.append(
                    f"{language} {concept}: its first tokens begin another language's identifier too"
                )
        usable = [c for c in self.probes.concepts if sum((c, o) in sets for o in self.probes.languages) > 1]
        kept = [
            (p, ids)
            for p, ids, token in placed
            if p.concept in usable and token in sets.get((p.concept, p.language), ())
        ]
        if not kept:
            raise InputError(
                f"no identifier has a token of its own in this tokenizer: {'; '.join(dropped[:5])}"
            )
        counts = np.zeros(len(tokenizer), dtype=np.int64)
        for texts in self.background.values():
            for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]:
                counts += np.bincount(ids, minlength=len(counts))
        rng = np.random.default_rng(0)
        return PromptReading(
            items=[Item(ids, index) for index, (_, ids) in enumerate(kept)],
            probes=tuple(probe for probe, _ in kept),
            languages=self.probes.languages,
            concepts=tuple(usable),
            sets={key: tokens for key, tokens in sets.items() if key[0] in usable},
            frequency=counts,
            dropped=tuple(dropped),
            elsewhere=np.array([rng.integers(0, max(1, len(ids) - 1)) for _, ids in kept]),
        )


def _up_to_identifier(tokenizer: Any, probe: Probe) -> tuple[np.ndarray, str]:
    """Ids up to and including the token with the identifier's first character, or why not."""
    text = probe.prompt + probe.identifier + probe.rest
    coded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    start = len(probe.prompt)
    for position, (begin, end) in enumerate(coded["offset_mapping"]):
        if begin <= start < end:
            merged = text[begin:start].strip()
            if merged:
                return np.array(
                    []
                ), f"the token {text[begin:end]!r} holds more than the identifier's beginning"
            if 2 * (end - start) < len(probe.identifier):
                # A column such as " e" for "echo" would count every word with that beginning.
                return np.array([]), f"the token {text[begin:end]!r} is less than half of the identifier"
            if position == 0:
                return np.array([]), "the identifier is the first token; a prompt must come before it"
            return np.array(coded["input_ids"][: position + 1], dtype=np.int64), ""
    return np.array([]), "the tokenizer drops the identifier's first character"


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
