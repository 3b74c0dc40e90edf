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
order      exchanging two checkpoints shortens Σ d² over the links of *each* place by a fifth or more. On a
           path with noise of its own around it no exchange can: what the noise wins at one place it loses
           at the other. Repeated, the one that saves most first, until there is none. Where all names are
           shuffled no exchange may do, so the order of distances from one end of the path is tried too; it
           must save as much of all links, also without the two checkpoints at either end of it, to
           which outliers go.
norm       log ‖x_k‖ is outside the range of its neighbours' by more than log 1.1 and by more than twice the
           links beyond them. The last one must be above the one before, by three times the two links before:
           a fall at the end is what a decay does to noise.

All this holds in many dimensions, where independent directions are at right angles. If noise has few, angles
scatter: with u_k = leg_k / (d(k−1, k) · d(k, k+1)) and s = 1.48 · median |u_k − u_{k+1}| / √2, an outlier's
u_k must be 5 s above the median of the ten angles nearest to it on the path without it (0.98 always
will do), and another order must save a share of 5 s of the path put in that order.

The first checkpoint, and several wrong ones in a row, cannot be judged like this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

LEG = 0.75  # of d²(k−1, k+1)
NEIGHBOURS = 2.0  # times their legs
TENSORS = 0.25  # share that must agree
ENTRIES = 64  # of a tensor, to have a say
UNRELATED, RELATED = 0.2, 0.6  # correlations of the last link and of the one before
GAIN = 0.2  # share of the links that another order must save
NORM = np.log(1.1)
SCATTER = 5.0  # robust standard deviations of the angles along the path
STRAIGHT_BACK = 0.98  # no scatter explains: d(k−1, k+1) is a fifth of the way to k
NEARBY = 5  # angles on either side of an outlier that tell its scatter: early steps may be mostly noise

Sample = Float[np.ndarray, "checkpoint entry"]


def true_order(samples: Sequence[Sample]) -> list[int]:
    """The order in which the checkpoints lie along the path.

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
    if n < 4:
        return list(range(n))
    distances = _distances(samples)
    order, gain = _exchanged(distances)
    along = _from_one_end(distances)
    inner = set(along[2:-2])
    among = [k for k in order if k in inner]
    shuffled = min(_shorter(distances, order, along), _shorter(distances, among, along[2:-2]))
    if shuffled > GAIN:
        order, gain = along, shuffled
    in_order = distances[np.ix_(order, order)]
    return order if gain > SCATTER * _scatter(_angles(in_order)) else list(range(n))


def outliers(samples: Sequence[Sample]) -> list[int]:
    """Checkpoints that stick out from the way between their neighbours; `samples` as for `true_order`."""
    samples = [sample for sample in samples if sample.shape[1] >= ENTRIES]
    if not samples:
        return []
    left, found = list(range(len(samples[0]))), []
    distances = _distances(samples)
    while len(left) >= 4:  # the worst one first, then again without it: it would hide the next
        current = [sample[left] for sample in samples]
        legs = np.stack([_relative_legs(sample) for sample in current])  # (tensor, checkpoint)
        of_these = distances[np.ix_(left, left)]
        out = [k for k in np.flatnonzero((legs > 0).mean(0) >= TENSORS).tolist() if _turns_back(of_these, k)]
        if out:
            worst = max(out, key=np.median(legs, axis=0).__getitem__)
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
    if last >= 3 and last - 1 not in found and x[-1] - x[-2] > max(NORM, 3 * max(links[-3:-1])):
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


def _exchanged(distances: Float[np.ndarray, "n n"]) -> tuple[list[int], float]:
    """The order after all exchanges that save enough, and the largest share that one of them saves."""
    order, largest = np.arange(len(distances)), 0.0
    while True:
        gain, saved = _exchanges(distances[np.ix_(order, order)])
        saved = np.where(gain > GAIN, saved, 0)
        p, q = np.unravel_index(np.argmax(saved), saved.shape)
        if not saved[p, q]:  # each exchange shortens the whole path, so this ends
            return order.tolist(), largest
        order[[p, q]] = order[[q, p]]
        largest = max(largest, float(gain[p, q]))


def _from_one_end(distances: Float[np.ndarray, "n n"]) -> list[int]:
    """By distance from an end of the longest way there is; of its two ends the one nearer the given start."""
    ends = np.unravel_index(np.argmax(distances), distances.shape)
    order = np.argsort(distances[min(ends)], kind="stable")
    return order.tolist()


def _shorter(distances: Float[np.ndarray, "n n"], order: list[int], other: list[int]) -> float:
    """Share of Σ d² along `order` that the other order of the same checkpoints saves."""
    now, then = (distances[path[:-1], path[1:]].sum() for path in (order, other))
    return float(1 - then / now) if now else 0.0


def _angles(distances: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n-2"]:
    """u_k of every checkpoint but the first and the last: −1 straight on, 1 straight back."""
    one, two = distances.diagonal(1), distances.diagonal(2)
    size = 2 * np.sqrt(one[:-1] * one[1:])
    return np.divide(one[:-1] + one[1:] - two, size, out=np.zeros_like(size), where=size > 0)


def _scatter(angles: Float[np.ndarray, " angle"]) -> float:
    """Robust standard deviation about whatever slow course the angles have."""
    return 1.4826 * float(np.median(abs(np.diff(angles)))) / np.sqrt(2) if len(angles) > 1 else 0.0


def _turns_back(distances: Float[np.ndarray, "n n"], k: int) -> bool:
    """Whether the path turns back at k further than the scatter of its angles nearby explains."""
    rest = np.delete(np.arange(len(distances)), k)
    others = _angles(distances[np.ix_(rest, rest)])[max(k - 1 - NEARBY, 0) : k - 1 + NEARBY]
    usual = np.median(others) + SCATTER * _scatter(others)
    return bool(_angles(distances)[k - 1] > min(usual, STRAIGHT_BACK))


def _exchanges(
    distances: Float[np.ndarray, "n n"],
) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n n"]]:
    """What exchanging p < q saves: share of the links at p or at q, the lesser one, and Σ d² over all."""
    n = len(distances)
    edge = np.zeros((1, n))
    before = np.vstack([edge, distances[:-1]])  # [p, q]: from p − 1 to q, were q at place p
    after = np.vstack([distances[1:], edge])
    then = before + after
    now = np.repeat(then.diagonal()[:, None], n, axis=1)
    for p in range(n - 1):  # neighbours keep the link between them
        now[p, p + 1], then[p, p + 1] = before[p, p], before[p, p + 1]
        now[p + 1, p], then[p + 1, p] = after[p + 1, p + 1], after[p + 1, p]
    saved = now - then
    share = np.divide(saved, now, out=np.zeros_like(now), where=now > 0)
    return np.triu(np.minimum(share, share.T), 1), np.triu(saved + saved.T, 1)


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
