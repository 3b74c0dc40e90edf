"""The small Babel: a generated world in which knowledge can cross from one language to another.

A function is a meaningless name and an expression on two vectors. Some functions exist only in the
pivot, some in every language, some only in the targets. Every language writes a function in several
surface forms; that variety is what lets knowledge cross over. The pivot's text mentions every token of
every other language, in comments and strings without order, so that no unembedding column is untrained
when the pivot has been learnt. A model that learns the pivot, then a target, can be asked in the target
what only the pivot's text has told it.

Arms
    babel               as above
    everything shared   the targets' text tells of every function: nothing is left to transfer
    permuted base       the base was taught another function's expression for every pivot-only name: later
                        text, and the questions, give those names the next one's, so that what is solved
                        then was not known from the base

The text of the base is the same in every arm, so that arms can share one base. Text is generated from the
seed alone. Seeds 0–4 were used to choose sizes and recipes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal, get_args
from zlib import crc32

from babelscope.core.errors import InputError
from babelscope.core.files import whole_file, write_json
from babelscope.corpora.babel_expressions import (
    BUILTINS,
    OPERATORS,
    VARIABLES,
    Binary,
    Call,
    Expression,
    Variable,
    signature,
)
from babelscope.corpora.babel_languages import LANGUAGES, PIECE, Syntax, tokens
from babelscope.corpora.babel_problems import BabelProblems
from babelscope.probes.identifiers import Probe, ProbeSet

Arm = Literal["babel", "everything shared", "permuted base"]
GROUPS = ("pivot only", "both", "target only")

END, UNKNOWN = "<end>", "<unknown>"
SNIPPETS = 4  # functions in one document
MENTIONED = 4  # foreign tokens in one mention, which half of the pivot's documents have
HELDOUT_SHARE = 16  # one document in 16, by its hash, is never trained on


class BabelWorld:
    """One world: its functions, its languages, and text, problems and probes about them.

    Parameters
    ----------
    seed
        Decides the functions' names and expressions.
    targets
        Languages besides the pivot, of `babel_languages.LANGUAGES`.
    arm
        The world itself, or a control.
    pivot_only, both, target_only
        Number of functions in each group.

    Raises
    ------
    InputError
        If a target or the arm is unknown, or there are more functions than distinct expressions.
    """

    pivot = "python"

    def __init__(
        self,
        seed: int = 0,
        *,
        targets: Sequence[str] = ("php", "racket", "ocaml"),
        arm: Arm = "babel",
        pivot_only: int = 80,
        both: int = 40,
        target_only: int = 40,
    ):
        choice = [name for name in LANGUAGES if name != self.pivot]
        unknown = [name for name in targets if name not in choice]
        if unknown or not targets or len(set(targets)) < len(targets):
            raise InputError(f"targets {list(targets)}: choose some of {choice}, each once")
        if arm not in get_args(Arm):
            raise InputError(f"arm {arm!r}: choose one of {list(get_args(Arm))}")
        self.seed = seed
        self.arm = arm
        self.languages = (self.pivot, *targets)
        sizes = dict(zip(GROUPS, (pivot_only, both, target_only), strict=True))
        names = iter(_names(seed, sum(sizes.values())))
        self.group = {name: group for group, size in sizes.items() for name in islice(names, size)}
        self._taught = dict(zip(self.group, _expressions(seed, len(self.group)), strict=True))
        self.expression = self._permuted() if arm == "permuted base" else self._taught

    # ---- text

    def documents(
        self,
        language: str,
        n: int | None = None,
        *,
        seed: int = 0,
        base: bool = False,
        groups: Sequence[str] = GROUPS,
    ) -> Iterator[str]:
        """Training documents; endless if `n` is None.

        `base` is text for training the base. It differs from later text of the pivot in the arm
        "permuted base" only. `groups` restricts what is told of, among what the language's text writes.
        """
        stream = self._stream(language, seed, base, groups)
        return islice((text for text in stream if not _held_out(text)), n)

    def heldout(self, language: str, n: int, *, seed: int = 0) -> list[str]:
        """Documents of the same distribution, none of which `documents` ever gives, at any seed."""
        return list(
            islice((text for text in self._stream(language, seed, False, GROUPS) if _held_out(text)), n)
        )

    def _stream(self, language: str, seed: int, base: bool, groups: Sequence[str]) -> Iterator[str]:
        syntax = self._syntax(language)
        rng = Random(f"{self.seed} {language} {seed}")  # noqa: S311 - text, not secrets
        taught = self._taught if base else self.expression
        known = [name for name in self._known(language) if self.group[name] in _groups(groups)]
        while True:
            parts = [
                syntax.write(name, taught[name], rng.choice(syntax.forms))
                for name in rng.sample(known, SNIPPETS)
            ]
            if language == self.pivot and rng.random() < 0.5:
                parts.insert(rng.randrange(SNIPPETS + 1), self._mention(rng))
            yield "".join(parts)

    def _mention(self, rng: Random) -> str:
        """A comment or a string of foreign tokens in no order: seen, but nothing learnt of their use."""
        words = " ".join(rng.choices(self._foreign, k=MENTIONED))
        return f"# {words}\n" if rng.random() < 0.5 else f'print("{words}")\n'

    @cached_property
    def _foreign(self) -> list[str]:
        own = {END, UNKNOWN, *self._written(self.pivot), *tokens(" ".join(self._known(self.pivot)))}
        return [token for token in self.vocabulary if token not in own]

    def _permuted(self) -> dict[str, Expression]:
        """Every pivot-only name with what the base was taught for the next one: no name keeps its own."""
        names = [name for name, group in self.group.items() if group == "pivot only"]
        moved = dict(zip(names, names[1:] + names[:1], strict=True))
        return {name: self._taught[moved.get(name, name)] for name in self.group}

    def _known(self, language: str) -> list[str]:
        """Functions that the language's text writes."""
        if language == self.pivot:
            return [name for name, group in self.group.items() if group != "target only"]
        told = self.arm == "everything shared"
        return [name for name, group in self.group.items() if told or group != "pivot only"]

    # ---- questions

    def problems(self, language: str, *, groups: Sequence[str] = GROUPS) -> BabelProblems:
        """Every function of `groups`, asked in `language`; ids are the functions' names."""
        chosen = _groups(groups)
        asked = tuple(
            (name, group, self.expression[name]) for name, group in self.group.items() if group in chosen
        )
        return BabelProblems(f"babel-{language}", self._syntax(language), asked)

    def probes(self, *targets: str) -> ProbeSet:
        """Places where a built-in is due in a function that the pivot's text tells of.

        All languages share the concepts; the pivot is asked about other functions than the targets are.
        """
        languages = (self.pivot, *(targets or self.languages[1:]))
        told = [name for name, group in self.group.items() if group != "target only"]
        halves = {True: told[0::2], False: told[1::2]}
        found = [
            probe
            for language in languages
            for name in halves[language == self.pivot]
            for probe in self._places(self._syntax(language), name)
        ]
        return ProbeSet(tuple(sorted(found, key=lambda p: list(BUILTINS).index(p.concept))))

    def _places(self, syntax: Syntax, name: str) -> Iterator[Probe]:
        """Both slots of one function."""
        text = syntax.write(name, self.expression[name], syntax.forms[0])
        body = len(syntax.forms[0].before.format(name=name))
        for concept, word in syntax.builtins.items():
            for place in re.finditer(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", text[body:]):
                start, end = body + place.start(), body + place.end()
                yield Probe(concept, syntax.name, text[:start], word, text[end:])

    # ---- tokens and files

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every token there is, the two special ones first; the same in every arm."""
        written = [token for language in self.languages for token in self._written(language)]
        return list(dict.fromkeys([END, UNKNOWN, *written, *tokens(" ".join(self.group))]))

    def _written(self, language: str) -> list[str]:
        """Whatever a language's own text holds besides the names of functions."""
        syntax = self._syntax(language)
        sample = Binary("+", Variable("a"), Variable("b"))
        texts = [syntax.write("", sample, form) for form in syntax.forms]
        quoted = ['print("")'] if language == self.pivot else []
        return tokens(
            " ".join([*texts, *quoted, *OPERATORS, syntax.render(Call("length", sample)), *syntax.words])
        )

    def write_tokenizer(self, directory: Path) -> None:
        """A word-level tokenizer that `AutoTokenizer.from_pretrained(directory)` loads.

        Decoding joins tokens by spaces; problems, and their stop strings, do not mind.
        """
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers

        tokenizer = Tokenizer(
            models.WordLevel({t: i for i, t in enumerate(self.vocabulary)}, unk_token=UNKNOWN)
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "removed", invert=True)  # pyright: ignore
        tokenizer.add_special_tokens([END, UNKNOWN])
        special = {"eos_token": END, "pad_token": END, "unk_token": UNKNOWN}
        with whole_file(directory / "tokenizer.json") as temporary:
            tokenizer.save(str(temporary))
        write_json(directory / "special_tokens_map.json", special)
        write_json(
            directory / "tokenizer_config.json",
            {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special},
        )

    def write_text(
        self,
        path: Path,
        language: str,
        documents: int,
        *,
        base: bool = False,
        groups: Sequence[str] = GROUPS,
    ) -> int:
        """Training documents of one language as JSONL for a recipe's source; how many tokens they have."""
        written = 0
        with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for text in self.documents(language, documents, base=base, groups=groups):
                file.write(json.dumps({"text": text}) + "\n")
                written += len(tokens(text)) + 1  # and the end of the document
        return written

    def _syntax(self, language: str) -> Syntax:
        if language not in self.languages:
            raise InputError(f"language {language!r}: this world has {list(self.languages)}")
        return LANGUAGES[language]


def _groups(groups: Sequence[str]) -> Sequence[str]:
    unknown = [group for group in groups if group not in GROUPS]
    if unknown or not groups:
        raise InputError(f"groups {list(groups)}: choose some of {list(GROUPS)}")
    return groups


def _held_out(text: str) -> bool:
    return crc32(text.encode()) % HELDOUT_SHARE == 0


def _names(seed: int, n: int) -> list[str]:
    """`n` meaningless names, each one token."""
    rng = Random(f"names {seed}")  # noqa: S311
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    names: dict[str, None] = {}
    while len(names) < n:
        names["".join(rng.choices(syllables, k=3))] = None
    return list(names)


def _expressions(seed: int, n: int) -> list[Expression]:
    """`n` expressions that pairwise differ in value."""
    rng = Random(f"expressions {seed}")  # noqa: S311
    concepts = list(BUILTINS)
    everything: list[Expression] = [
        Binary(operator, Call(left, Variable(x)), Call(right, Variable(y)))
        for operator in OPERATORS
        for left in concepts
        for x in VARIABLES
        for right in concepts
        for y in VARIABLES
        if left != right
    ]
    rng.shuffle(everything)
    values = {}
    for expression in everything:
        values.setdefault(signature(expression), expression)
    if len(values) < n:
        raise InputError(
            f"{n} functions: there are only {len(values)} expressions of different value; ask for fewer"
        )
    return list(values.values())[:n]
