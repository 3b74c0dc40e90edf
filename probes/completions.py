"""Where a completion of a function ends: models go on writing after it, and what follows is not marked.

The rules are data (`Completion` in `babelscope.core.languages`). All are looked for in prompt and completion
together, so that `^` is the beginning of a line of the program and not of the completion. Stop strings such
as MultiPL-E's, which end a function at its first empty line in four languages, are not used.
"""

from __future__ import annotations

import re
from functools import cache

from babelscope.core.languages import language
from babelscope.probes.problems import Problem


def ends(language_name: str, prompt: str) -> tuple[str, tuple[str, ...]]:
    """`ends_after` and `ends_before` of a problem whose prompt ends in an open function.

    The indentation that closes the function is that of the last line of the prompt that could have opened it;
    of none, no indentation.
    """
    rules = language(language_name).completion
    opened = re.findall(rules.opens, prompt, re.MULTILINE)
    indent = re.escape(opened[-1] if opened else "")
    return rules.ends_after.replace("{indent}", indent), rules.ends_before


def cut(text: str, problem: Problem) -> str:
    """The completion without what follows it: up to whatever ends it first."""
    end = _end(text, problem, growing=False)
    return text if end is None else text[:end]


def ended(text: str, problem: Problem) -> bool:
    """Whether `cut` keeps the same part of `text` whatever is still to come.

    A match that touches the end of the text is not counted: with more of it, `end` may become `endpoint` and
    `}` be followed by something that makes it no end. Rules look no further than one character beyond what
    they match, hence a match that is followed by anything is final.
    """
    return _end(text, problem, growing=True) is not None


def _end(text: str, problem: Problem, *, growing: bool) -> int | None:
    start, whole = len(problem.prompt), problem.prompt + text
    last = len(whole) - growing
    # The first line continues the prompt; a rule that found its end there would leave nothing.
    second = text.find("\n") + 1
    found = [place for stop in problem.stop if (place := text.find(stop)) >= 0]
    if problem.ends_after:
        match = _compiled(problem.ends_after).search(whole, start)
        found += [match.end() - start] if match and match.end() <= last else []
    for pattern in problem.ends_before if second else ():
        match = _compiled(pattern).search(whole, start + second)
        found += [match.start() - start] if match and match.end() <= last else []
    return min(found, default=None)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)
