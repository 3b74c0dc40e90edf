"""A few prompts to look at: texts of one's own, or the shortest probe of each concept.

Any text will do. Where probes are given, the tokens that begin one language's identifiers and no other's are
recognised wherever they occur.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.interp.measure import Item, Reading
from babelscope.interp.streams import PromptReading, PromptStream

NOTHING = -1  # where there is no token
WORDS = ("a", "i", "print", "return")  # a tokenizer of code has one of them with the space before it


@dataclass(frozen=True)
class Prompt:
    """A text to look at.

    Attributes
    ----------
    text
        What the model reads.
    rest
        How it goes on, where that is known; it is tokenised together with the text and not read.
    language, concept
        Of the probe that it comes from, if any.
    """

    text: str
    rest: str = ""
    language: str = ""
    concept: str = ""


@dataclass(frozen=True)
class TableReading(Reading):
    """Prompts as one tokenizer reads them.

    Attributes
    ----------
    prompts
        The prompt behind each item.
    following
        (item,) the token that comes next, or NOTHING.
    identifiers
        By language, the tokens that begin its identifiers and no other language's.
    tokenizer
        Which spells the tokens that layers decode to.
    """

    prompts: tuple[Prompt, ...]
    following: np.ndarray
    identifiers: Mapping[str, Collection[int]]
    tokenizer: Any


class PromptTexts:
    """Prompts of one's own.

    Parameters
    ----------
    prompts
        At least one.
    identifiers
        Probes whose identifiers are to be recognised among the decoded tokens.
    context
        Tokens that the model takes; any number if None.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        *,
        identifiers: PromptStream | None = None,
        context: int | None = None,
    ):
        if not prompts:
            raise InputError("a lens table needs at least one prompt; none was given")
        self.prompts = tuple(prompts)
        self.identifiers = identifiers
        self.context = context
        probes = identifiers.key if identifiers else None
        self.key = digest([[asdict(prompt) for prompt in self.prompts], probes, context])

    def read(self, tokenizer: Any) -> TableReading:
        """Every prompt as it is.

        Raises
        ------
        InputError
            If a prompt is empty or longer than the context, or if no identifier has a token of its own.
        """
        reading = read_prompts(self.prompts, tokenizer)
        for prompt, item in zip(self.prompts, reading.items, strict=True):
            if self.context is not None and len(item.ids) > self.context:
                raise InputError(
                    f"the prompt {prompt.text[:24]!r}… has {len(item.ids):,} tokens and the model takes"
                    f" {self.context:,}; give its end"
                )
        if self.identifiers is None:
            return reading
        return replace(reading, identifiers=own_identifiers(self.identifiers.read(tokenizer)))


class ProbePrompts:
    """The shortest probe of each concept in one language: what a report shows as examples.

    Parameters
    ----------
    identifiers
        Probes of this language and others.
    language
        Whose prompts are taken.
    most
        Concepts that are shown, the first ones.
    """

    def __init__(self, identifiers: PromptStream, *, language: str, most: int = 6):
        self.identifiers = identifiers
        self.language = language
        self.most = most
        self.key = digest([identifiers.key, language, most])

    def read(self, tokenizer: Any) -> TableReading:
        """Of the probes that this tokenizer can use; `InputError` if there is none in the language."""
        probed = self.identifiers.read(tokenizer)
        prompts = examples(probed, self.language)[: self.most]
        if not prompts:
            usable = sorted({probe.language for probe in probed.probes})
            raise InputError(f"no probe of {self.language!r} is usable; there are some of {usable}")
        reading = read_prompts(prompts, tokenizer)
        return replace(reading, identifiers=own_identifiers(probed))


def examples(reading: PromptReading, language: str) -> tuple[Prompt, ...]:
    """Of every concept, the prompt of fewest tokens in `language`; the first of equals."""
    chosen: dict[str, int] = {}
    for item, probe in zip(reading.items, reading.probes, strict=True):
        best = chosen.get(probe.concept)
        if probe.language == language and (best is None or len(item.ids) < len(reading.items[best].ids)):
            chosen[probe.concept] = item.index
    probes = [reading.probes[chosen[concept]] for concept in reading.concepts if concept in chosen]
    return tuple(Prompt(p.prompt, p.identifier + p.rest, p.language, p.concept) for p in probes)


def own_identifiers(reading: PromptReading) -> dict[str, frozenset[int]]:
    """By language, the tokens that begin its identifiers, of any concept, and no other language's."""
    tokens = {
        language: {int(t) for (_, spoken), found in reading.sets.items() if spoken == language for t in found}
        for language in reading.languages
    }
    return {
        language: frozenset(own.difference(*(t for other, t in tokens.items() if other != language)))
        for language, own in tokens.items()
    }


def read_prompts(prompts: Sequence[Prompt], tokenizer: Any) -> TableReading:
    """Tokenise each prompt together with how it goes on, and cut before the token that begins that.

    Raises
    ------
    InputError
        If a prompt has no token.
    """
    items, following = [], []
    for prompt in prompts:
        coded = tokenizer(
            prompt.text + prompt.rest, return_offsets_mapping=True, add_special_tokens=False, verbose=False
        )
        ids, ends = np.array(coded["input_ids"], dtype=np.int64), [end for _, end in coded["offset_mapping"]]
        read = sum(end <= len(prompt.text) for end in ends)
        if not read:
            raise InputError(f"the prompt {prompt.text!r} has no token; a lens needs a text to look at")
        items.append(Item(ids[:read], len(items)))
        following.append(int(ids[read]) if read < len(ids) else NOTHING)
    return TableReading(items, tuple(prompts), np.array(following), {}, tokenizer)


def ends_within_a_token(tokenizer: Any, text: str) -> bool:
    """Whether the text's last token would be another if a word followed, as where it ends in a space.

    The model has then hardly ever met such an end, and what it decodes to there says little.
    """

    def read(rest: str) -> int:
        return len(read_prompts([Prompt(text, rest)], tokenizer).items[0].ids)

    return text[-1:].isspace() and any(read(word) < read("") for word in WORDS)
