"""Texts, probes and problems that any random model can be asked; nothing here needs torch."""

from __future__ import annotations

from typing import ClassVar

from babelscope.interp.loss import LanguageLoss
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.problem_scores import ProblemScores
from babelscope.interp.streams import ProblemStream, PromptStream, TextStream
from babelscope.interp.working_language import WorkingLanguage
from babelscope.probes.identifiers import Probe, ProbeSet
from babelscope.probes.placement import Minimum
from babelscope.probes.problems import Problem, Verdict

TEXTS = {
    "python": ["n = len(xs) + len(ys)\nprint(n)\n" * 3, "def f(a):\n    return a\n", "é = 'ü'\n"],
    "php": ["$n = count($xs) + count($ys);\necho $n;\n" * 3, "function f($a) { return $a; }\n"],
}
PROBES = ProbeSet(
    tuple(
        Probe(concept, language, prompt, identifier, "(xs)")
        for concept, language, identifier in (
            ("length", "python", "len"),
            ("length", "php", "count"),
            ("show", "python", "print"),
            ("show", "php", "echo"),
        )
        for prompt in ("n = ", "a = b; total = ", "(1 + 2) * ")
    )
)
FEW = Minimum(concepts=1, prompts=1)  # what random models of tests are asked suffices for no interval


class Echo:
    """Solved when the completion holds an even number of characters: any rule will do."""

    name = "echo"
    max_new_tokens = 5
    key = "echo-1"
    problems = tuple(
        Problem(str(i), "php", prompt) for i, prompt in enumerate(("a", "count(", "n = n", "$x"))
    )

    marking: ClassVar = {"marking": 1}

    def check(self):
        pass

    def mark(self, attempts, *, advance=lambda done: None):
        advance(len(attempts))
        solved = [len(attempt.completion) % 2 == 0 for attempt in attempts]
        return [Verdict(one, "even" if one else "odd") for one in solved]


def every_measure():
    """One of each kind, over few tokens."""
    texts = TextStream(TEXTS, tokens=30, window=16)
    return [
        LanguageLoss(texts),
        TransferringNeurons(texts),
        WorkingLanguage(PromptStream(PROBES, background=TEXTS, minimum=FEW)),
        ProblemScores(ProblemStream(Echo())),
    ]
