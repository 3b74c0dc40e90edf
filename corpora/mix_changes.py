"""What is different between two mixes, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from babelscope.core.languages import shown
from babelscope.corpora.mix import LanguageShare, Mix


def changes(old: Mix, new: Mix) -> list[str]:
    """One sentence per difference, what to do first and what it rests on last; empty where there is none.

    The verdict repeats all the numbers, so it is told only where nothing else tells the difference.
    """
    found = [
        f"{what}: {before or 'none'} before, {after or 'none'} now."
        for what, before, after in (
            ("Decision", old.decision, new.decision),
            ("Pivot", old.pivot, new.pivot),
            ("Method", old.method, new.method),
        )
        if before != after
    ]
    for name in dict.fromkeys((*old.languages, *new.languages)):
        before, after = old.languages.get(name), new.languages.get(name)
        if before is None or after is None:
            found.append(f"{shown(name)} is {'new' if before is None else 'no longer there'}.")
        else:
            found += _of_share(name, before, after)
    before, after = dict(_leaves(old.provenance)), dict(_leaves(new.provenance))
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            told = [
                "nothing" if key not in leaves else "none" if leaves[key] is None else str(leaves[key])
                for leaves in (before, after)
            ]
            found.append(f"{key}: {told[0]} before, {told[1]} now.")
    return found or ([f"Verdict now: {new.verdict}"] if old.verdict != new.verdict else [])


def _of_share(name: str, old: LanguageShare, new: LanguageShare) -> Iterator[str]:
    for field in LanguageShare.model_fields:
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield f"{shown(name)}, {field.replace('_', ' ')}: {_value(before)} before, {_value(after)} now."


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case float():
            return f"{value:.2%}"
        case tuple():
            return " to ".join(map(_value, value))
        case _:
            return f"{value:,}"


def _leaves(document: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(document, dict):
        yield name, document
        return
    for key, part in document.items():
        yield from _leaves(part, f"{name}, {key}" if name else key)
