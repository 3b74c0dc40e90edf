"""Is a checkpoint where its step says, judged by the path that the weights take?

Checkpoints are points x_0 … x_n in order of step, seen through a few hundred entries of every tensor.
Whatever the schedule, a training run is a path that moves on (drift, diffusion: distances add up) with some
noise around it that every checkpoint has for itself. How far x_k sticks out from the way between its
neighbours is

    leg_k = (d²(k−1, k) + d²(k, k+1) − d²(k−1, k+1)) / 2 = −⟨x_k − x_{k−1}, x_{k+1} − x_k⟩

Drift makes it negative, a random walk 0, and noise of variance σ_k² adds σ_k². So where noise grows or
shrinks over three checkpoints, leg_k ≤ d²(k−1, k+1); equal variances give half of that. No rule here depends
on how far apart the steps are, and there is no distribution to fit.

outlier    leg_k > 3/4 · d²(k−1, k+1) and > 2 · the legs of its neighbours, both computed without k, in a
           quarter of the tensors or more. (A decay makes the first true at its last noisy checkpoint, but
           then the one before has such a leg too.) The last checkpoint has no next one: it is an outlier
           if its correlation with the one before is < 0.2 and that one's with its own predecessor > 0.6.
           Tensors of which fewer than 64 entries are seen have no say: their angles are too uncertain.
swap       exchanging two checkpoints shortens Σ d² over the links of *each* place by a fifth or more. On a
           path with noise of its own around it no exchange can: what the noise wins at one place it loses
           at the other. Repeated, best exchange first, until there is none.
norm       log ‖x_k‖ is outside the range of its neighbours' by more than log 1.1 and by more than twice the
           links beyond them; the last one is compared with the one before it, by three times.

The first checkpoint, and several wrong ones in a row, cannot be judged like this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

LEG, NEIGHBOURS, TENSORS = (
    0.75,
    2.0,
    0.25,
)  # outlier: of d²(k−1, k+1), of the neighbours' legs, of all tensors
ENTRIES = 64  # a tensor must show, to have a say
UNRELATED, RELATED = 0.2, 0.6  # correlations at the end
GAIN = 0.2  # swap
NORM = np.log(1.1)

Sample = Float[np.ndarray, "checkpoint entry"]


def swaps(samples: Sequence[Sample]) -> list[int]:
    """Where each checkpoint belongs.

    Parameters
    ----------
    samples
        Per tensor, the same entries of every checkpoint, in order of step; finite.

    Returns
    -------
    list of int
        At each place the checkpoint that fits there; `[0, 1, 2, …]` if none is misplaced.
    """
    n = len(samples[0])
    order = list(range(n))
    distances = _distances(samples)
    while n >= 4:
        gain = _gains(distances)
        p, q = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[p, q] < GAIN:  # each exchange shortens the whole path, so this ends
            break
        order[p], order[q] = order[q], order[p]
        exchanged = np.arange(n)
        exchanged[[p, q]] = q, p
        distances = distances[np.ix_(exchanged, exchanged)]
    return order


def outliers(samples: Sequence[Sample]) -> list[int]:
    """Checkpoints that stick out from the way between their neighbours; `samples` as for `swaps`."""
    samples = [sample for sample in samples if sample.shape[1] >= ENTRIES]
    left, found = list(range(len(samples[0]))) if samples else [], []
    while len(left) >= 4:  # the worst one first, then again without it: it would hide the next
        current = [sample[left] for sample in samples]
        legs = np.stack([_relative_legs(sample) for sample in current])  # (tensor, checkpoint)
        out = (legs > 0).mean(0) >= TENSORS
        if out.any():
            worst = int(np.argmax(np.where(out, np.median(legs, axis=0), -np.inf)))
        elif _unrelated_end(current):
            worst = len(left) - 1
        else:
            break
        found.append(left.pop(worst))
    return sorted(found)


def norm_jumps(norms: Float[np.ndarray, " checkpoint"]) -> list[int]:
    """Checkpoints whose norm leaps; `norms` in order of step."""
    x = np.log(np.maximum(norms, np.finfo(float).tiny))
    links = np.abs(np.diff(x))
    found = []
    for k in range(1, len(x) - 1):
        beyond = [links[link] for link in (k - 2, k + 1) if 0 <= link < len(links)]
        outside = max(x[k] - max(x[k - 1], x[k + 1]), min(x[k - 1], x[k + 1]) - x[k])
        if beyond and outside > NORM and outside > 2 * max(beyond):
            found.append(k)
    last = len(x) - 1
    if last >= 3 and last - 1 not in found and links[-1] > NORM and links[-1] > 3 * max(links[-3:-1]):
        found.append(last)
    return found


def _distances(samples: Sequence[Sample]) -> Float[np.ndarray, "checkpoint checkpoint"]:
    """Squared distances, each tensor in units of its own usual step so that none decides alone."""
    total = np.zeros((len(samples[0]),) * 2)
    for sample in samples:
        centred = sample.astype(float) - sample.mean(0, dtype=float)
        squares = (centred**2).sum(1)
        squared = (squares[:, None] + squares - 2 * centred @ centred.T).clip(0)
        links = squared.diagonal(1)
        total += squared / np.median(links[links > 0]) if links.any() else 0
    np.fill_diagonal(total, 0)
    return total


def _gains(distances: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Share of the links that exchanging p < q saves: the lesser of what it saves at p and at q."""
    n = len(distances)
    edge = np.zeros((1, n))
    before = np.vstack([edge, distances[:-1]])  # [p, q]: from p − 1 to q, were q at place p
    after = np.vstack([distances[1:], edge])
    now, then = before + after, before + after
    now = np.broadcast_to(now.diagonal()[:, None], (n, n)).copy()
    for p in range(n - 1):  # neighbours keep the link between them
        now[p, p + 1], then[p, p + 1] = before[p, p], before[p, p + 1]
        now[p + 1, p], then[p + 1, p] = after[p + 1, p + 1], after[p + 1, p]
    saved = 1 - np.divide(then, now, out=np.ones_like(now), where=now > 0)
    return np.triu(np.minimum(saved, saved.T), 1)


def _relative_legs(sample: Sample) -> Float[np.ndarray, " checkpoint"]:
    """Leg over d²(k−1, k+1) where the checkpoint sticks out in this tensor, 0 where it does not."""
    one, two, three = (((sample[lag:] - sample[:-lag]) ** 2).sum(1, dtype=float) for lag in (1, 2, 3))
    leg = (one[:-1] + one[1:] - two) / 2  # of checkpoints 1 … n−2
    # The neighbours' legs without k: k−1 on the way from k−2 to k+1, and k+1 on that from k−1 to k+2.
    earlier = np.append(-np.inf, (one[:-2] + two[1:] - three) / 2)
    later = np.append((two[:-1] + one[2:] - three) / 2, -np.inf)
    out = (leg > LEG * two) & (leg > NEIGHBOURS * np.maximum(np.maximum(earlier, later), 0))
    relative = np.divide(leg, two, out=np.full_like(leg, np.inf), where=two > 0)
    return np.pad(np.where(out, relative, 0), 1)


def _unrelated_end(samples: Sequence[Sample]) -> bool:
    """Whether the last checkpoint has nothing of the one before it, which had much of its own."""
    correlations = []
    for sample in samples:
        ends = sample[-3:].astype(float)
        ends -= ends.mean(1, keepdims=True)
        size = np.sqrt((ends**2).sum(1))
        if size.all():
            unit = ends / size[:, None]
            correlations.append([unit[0] @ unit[1], unit[1] @ unit[2]])
    if not correlations:
        return False
    before, last = np.median(correlations, axis=0)
    return bool(before > RELATED and last < UNRELATED)
