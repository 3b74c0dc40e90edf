"""Where the checkpoints of a run are: the names that trainers give to folders and to revisions.

checkpoint-10                            Hugging Face Trainer
step10  step_10  step-10  global_step10  Pythia, GPT-NeoX, DeepSpeed
iter_0000010  iter-10                    Megatron-LM
step10-tokens4B  stage1-step10-tokens4B  OLMo; its tokens are rounded
models--org--name                        the hub's cache: refs/step10 holds the commit in snapshots/<commit>
org/name@step*                           revisions of a model on the hub, of which some may be in the cache

A directory is listed once, and nothing in it is read. Two choices where names disagree:

* Layouts are not merged, since `iter_10` need not be what `checkpoint-10` counts: the layout with the most
  checkpoints is the series, the others are findings; where two have equally many, the directory is refused.
* Two names for one step in one layout (`iter_10`, `iter_0010`) are refused: nothing says which is the run's.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from babelscope.checkpoints import hub
from babelscope.checkpoints.findings import Finding
from babelscope.core.errors import InputError

_WORD = r"(?:checkpoint-|(?:global_)?step[_-]?|iter[_-]?)"
_NAME = re.compile(
    rf"(?P<layout>(?:stage[0-9]+-(?:\w+-)*)?{_WORD})(?P<step>[0-9]+)(?:-tokens(?P<tokens>[0-9]+)(?P<unit>[KMBT]))?",
    re.ASCII,
)
_UNFINISHED = re.compile(rf"tmp[-_.]{_WORD}([0-9]+).*|\.?{_WORD}([0-9]+).*[._-](?:part|tmp|incomplete)")
_WITHIN = re.compile(rf"(?<![a-zA-Z]){_WORD}([0-9]+)(?![0-9a-zA-Z])")
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_REPO = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class Place:
    """Where the checkpoint of one step is.

    Attributes
    ----------
    name
        The folder's or the revision's.
    layout
        What precedes the step in it.
    path
        Its folder; None if it is on the hub and not here.
    tokens_seen
        Tokens seen in training, where the name tells; rounded as there.
    repo
        The model on the hub, for a revision of one.
    """

    step: int
    name: str
    layout: str
    path: Path | None
    tokens_seen: int | None = None
    repo: str | None = None


class Found(NamedTuple):
    """Checkpoints by step, what was left out, and the directory that they belong to."""

    directory: Path
    places: list[Place]
    findings: list[Finding]


def find(place: str | Path) -> Found:
    """The checkpoints of a directory, of a model in the hub's cache, or of `repo@pattern`.

    Parameters
    ----------
    place
        A directory, or a model on the hub; `@` and a pattern (`*`, `?`) choose among its folders or
        revisions, as in `EleutherAI/pythia-70m@step*`. What is on this machine is taken from there.

    Raises
    ------
    InputError
        If there is no such directory or it cannot be listed; if no revision matches, or none is cached
        and the hub cannot be reached; if names contradict each other.
    """
    directory, pattern = Path(place), "*"
    if not os.path.isdir(directory) and "@" in str(place):
        base, _, pattern = str(place).rpartition("@")
        directory = Path(base)
        if not os.path.isdir(directory) and _REPO.fullmatch(base):
            return _on_the_hub(base, pattern)
    if not os.path.isdir(directory):
        raise InputError(
            f"{shown(directory)} is not a directory; give the one that holds checkpoint-N folders, "
            "or revisions of a model, such as EleutherAI/pythia-70m@step*"
        )
    places, findings = _revisions(directory) if is_cache(directory) else _folders(directory)
    chosen = [one for one in places if fnmatchcase(one.name, pattern)]
    places, left_out = _one_layout(chosen, shown(directory))
    return Found(directory, places, left_out + findings)


def is_cache(directory: Path) -> bool:
    """Whether a directory is one model in the hub's cache."""
    return os.path.isdir(directory / "refs") and os.path.isdir(directory / "snapshots")


def step_within(text: str) -> int | None:
    """The step that a path or a name mentions last, such as 10 in `runs/php/checkpoint-10`."""
    steps = _WITHIN.findall(text)
    return int(steps[-1]) if steps else None


def shown(name: str | Path) -> str:
    """A name fit to print in one line: line breaks, and bytes that are not UTF-8, are escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(name))


def _folders(directory: Path) -> tuple[list[Place], list[Finding]]:
    places, findings = [], []
    for entry in entries(directory):
        if place := _place(entry.name, Path(entry.path)):
            if os.path.isdir(entry.path):
                places.append(place)
            else:
                why = "a link to nothing" if entry.is_symlink() else "not a folder"
                findings.append(Finding(place.step, "unreadable", f"{place.name} is {why}"))
        elif unfinished := _UNFINISHED.fullmatch(entry.name):
            step = int(unfinished[1] or unfinished[2])
            detail = f"{shown(entry.name)} was not written to the end"
            findings.append(Finding(step, "unfinished", detail))
    return places, sorted(findings, key=lambda finding: finding.step or 0)


def _revisions(folder: Path) -> tuple[list[Place], list[Finding]]:
    places = (_place(name, snapshot) for name, snapshot in _snapshots(folder).items())
    return [place for place in places if place], []


def _snapshots(folder: Path) -> dict[str, Path]:
    """Where the cache has each revision; a file named as the revision holds its commit."""
    commits = {}
    for entry in entries(folder / "refs"):
        if os.path.isfile(entry.path):
            try:
                commits[entry.name] = Path(entry.path).read_text(errors="replace").strip()
            except OSError as error:
                raise InputError(f"{shown(entry.path)} cannot be read: {error.strerror}") from None
    return {name: folder / "snapshots" / commit for name, commit in commits.items()}


def _on_the_hub(repo: str, pattern: str) -> Found:
    folder = hub.cache_folder(repo)
    cached = _snapshots(folder) if is_cache(folder) else {}
    here = {name: path for name, path in cached.items() if hub.has_weights(path)}
    names, failure = {*here}, ""
    if pattern not in here:  # a revision named in full that is here needs no network
        try:
            names |= {*hub.revisions(repo)}
        except InputError as error:
            failure = str(error)
    matching = (_place(name, here.get(name), repo) for name in names if fnmatchcase(name, pattern))
    places, findings = _one_layout([place for place in matching if place], f"{repo}@{pattern}")
    if not places:
        raise InputError(_nothing_found(repo, pattern, names, folder, failure))
    if failure and not hub.is_offline():
        findings.append(Finding(None, "hub not reached", f"only what is in the cache: {failure}"))
    if failure:
        partly = (_place(name, None) for name in cached if name not in here and fnmatchcase(name, pattern))
        findings += [
            Finding(place.step, "not cached", f"{place.name}: its weights are not all in {shown(folder)}")
            for place in sorted(filter(None, partly), key=lambda place: place.step)
        ]
    return Found(folder, places, findings)


def _nothing_found(repo: str, pattern: str, names: set[str], folder: Path, failure: str) -> str:
    have = ", ".join(sorted(names)[:5]) + (f" … ({len(names)})" if len(names) > 5 else "") or "nothing"
    if not failure:
        return f"{repo} has no revision that matches {pattern!r} and names a step; there are {have}"
    return (
        f"{repo}@{pattern}: nothing that matches is in {shown(folder)} (there: {have}), and {failure}; "
        f"run `hf download {repo} --revision REVISION` where there is a network, or set HF_HUB_CACHE"
    )


def entries(directory: Path) -> list[os.DirEntry[str]]:
    """What a directory holds; an `InputError` if that cannot be listed."""
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError as error:
        raise InputError(f"{shown(directory)} cannot be listed: {error.strerror}") from None


def _place(name: str, path: Path | None, repo: str | None = None) -> Place | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    tokens = int(match["tokens"]) * _UNITS[match["unit"]] if match["tokens"] else None
    return Place(int(match["step"]), name, match["layout"], path, tokens, repo)


def _one_layout(candidates: Iterable[Place], where: str) -> tuple[list[Place], list[Finding]]:
    layouts: dict[str, list[Place]] = defaultdict(list)
    for place in candidates:
        layouts[place.layout].append(place)
    if not layouts:
        return [], []
    most, *others = sorted(layouts, key=lambda layout: (-len(layouts[layout]), layout))
    if others and len(layouts[others[0]]) == len(layouts[most]):
        raise InputError(
            f"{where} holds {len(layouts[most])} checkpoints named {most}N and as many named {others[0]}N; "
            "a series has one layout: move the others elsewhere"
        )
    places = sorted(layouts[most], key=lambda place: place.step)
    for one, other in pairwise(places):
        if one.step == other.step:
            raise InputError(
                f"{where} holds step {one.step} twice, {one.name} and {other.name}; move one elsewhere"
            )
    return places, [
        Finding(
            None, "another layout", f"{len(layouts[other])} named {other}N are left out: most are {most}N"
        )
        for other in others
    ]
