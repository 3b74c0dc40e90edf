"""A checkpoint that holds another step's tensors: a shard that was uploaded to the wrong place.

Training moves every tensor that it moves at all, so two steps should share no tensor byte for byte. Not
counted are tensors that stay the same over half of all links or more (buffers, whatever is never trained) and
those that a neighbour of either step has too (layers frozen for a while, norms too coarse for small updates).
What is shared must make up a twentieth of the entries that move.

Bytes do not say which of the two steps is the wrong one. For that the shared tensors are compared with the
checkpoints beside each, a and b, which are not part of the pair:

    misfit = (d²(a, x) + d²(x, b)) / d²(a, b)

is about 1 where they belong. If neither is larger by half, the later step is taken to be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from babelscope.checkpoints.contents import Contents
from babelscope.checkpoints.findings import Finding

SHARE = 0.05  # of the entries that move
FROZEN = 0.5  # of the links
PLAIN = 1.5  # ratio of misfits that decides


def foreign_tensors(contents: Mapping[int, Contents], names: Mapping[int, str]) -> Iterator[Finding]:
    """Checkpoints with some tensors of another step.

    Parameters
    ----------
    contents
        By step, in order; no two identical.
    names
        How to call each step's checkpoint.
    """
    steps, found = list(contents), list(contents.values())
    moving = _moving(found)
    total = sum(found[0].tensors[name].size for name in moving)
    pairs = _shared(found, moving)
    reported: dict[int, tuple[int, list[str]]] = {}
    for (i, j), shared in pairs.items():
        size = sum(found[0].tensors[name].size for name in shared)
        if size < SHARE * total:
            continue
        earlier, later = _misfit(found, i, j, shared), _misfit(found, j, i, shared)
        wrong, right = (i, j) if earlier > PLAIN * later else (j, i)
        if wrong not in reported or len(shared) > len(reported[wrong][1]):
            reported[wrong] = right, shared
    for wrong, (right, shared) in sorted(reported.items()):
        listed = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
        detail = f"{names[steps[wrong]]} has {len(shared)} of {len(found[0].tensors)} tensors"
        yield Finding(
            steps[wrong], "foreign tensors", f"{detail} of step {steps[right]}, byte for byte: {listed}"
        )


def _moving(found: Sequence[Contents]) -> list[str]:
    """Tensors that differ over more than half of the links."""
    links = list(pairwise(found))
    return [
        name
        for name in (found[0].tensors if links else ())
        if sum(_hash(a, name) == _hash(b, name) for a, b in links) < FROZEN * len(links)
    ]


def _shared(found: Sequence[Contents], moving: Sequence[str]) -> dict[tuple[int, int], list[str]]:
    """Tensors that two checkpoints share and none beside either has, by pair."""
    pairs: dict[tuple[int, int], list[str]] = {}
    for name in moving:
        places: dict[str | None, list[int]] = {}
        for i, one in enumerate(found):
            places.setdefault(_hash(one, name), []).append(i)
        for same in places.values():
            for i, j in combinations(same, 2):
                beside = {i - 1, i + 1, j - 1, j + 1} - {i, j}
                if beside.isdisjoint(same):
                    pairs.setdefault((i, j), []).append(name)
    return pairs


def _misfit(found: Sequence[Contents], i: int, other: int, names: Sequence[str]) -> float:
    """How far `names` at i are from the checkpoints beside it, in units of how far apart those are."""
    earlier = [k for k in range(i) if k != other][-2:]
    later = [k for k in range(i + 1, len(found)) if k != other][:2]
    # Between two where there are two sides, else beside the nearest two.
    beside = [earlier[-1], later[0]] if earlier and later else earlier[::-1] or later
    if len(beside) < 2:
        return 1.0
    ratios = []
    for name in names:
        if name in found[i].samples:
            x, a, b = (found[k].samples[name].astype(float) for k in (i, *beside))
            to_both = ((x - a) ** 2).sum() + (((x - b) ** 2).sum() if earlier and later else 0.0)
            between = ((a - b) ** 2).sum()
            ratios.append(to_both / between if between else np.inf)
    return float(np.median(ratios)) if ratios else 1.0


def _hash(one: Contents, name: str) -> str | None:
    return one.tensors[name].hash if name in one.tensors else None
