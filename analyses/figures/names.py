"""Signals and groups of problems in words, the same in figures and in sentences."""

from __future__ import annotations

from babelscope.core.languages import shown

SIGNALS = {
    "score": "problems solved in {target}",
    "pivot knowledge": "problems solved in {target} that only {pivot}'s text answers",
    "identifier choice": "prompts whose last layer prefers {target}'s identifier to {pivot}'s",
}
GROUPS = {
    "all": "all problems",
    "pivot only": "only {pivot}'s text answers",
    "both": "both texts answer",
    "target only": "only {target}'s text answers",
}


def signal_name(signal: str, *, pivot: str, target: str) -> str:
    """What a signal counts; one that is not known here keeps its own name."""
    return _filled(SIGNALS, signal, pivot, target)


def group_name(group: str, *, pivot: str, target: str) -> str:
    """Which problems a group holds, after "language: " where it is of one; a user's own keeps its name."""
    language, colon, within = group.partition(": ")
    if colon:
        return f"{shown(language)}: {_filled(GROUPS, within, pivot, target)}"
    return _filled(GROUPS, group, pivot, target)


def _filled(names: dict[str, str], name: str, pivot: str, target: str) -> str:
    return names[name].format(pivot=shown(pivot), target=shown(target)) if name in names else name
