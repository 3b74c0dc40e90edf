"""What the data say about a broken line: every set of breaks weighed by its likelihood.

    y = L·a + H(τ)·d + e,   e ~ N(0, S + σ²/R·W²),   L = [1, x],   H(τ)_k = max(x − τ_k, 0)

y are empirical logits, S the covariance that problems give them, σ the training noise of one run, R the
number of runs; W, diagonal, says how far y follows at each checkpoint. Priors are flat on the line a, and on
the changes of slope d with the density of unit information that BIC stands for (Kass & Wasserman, JASA 90,
1995); breaks are uniform on a grid and σ on a range. Every integral has a closed form or is a sum over a grid
(for breaks: Carlin, Gelfand & Smith, Applied Statistics 41, 1992). Zellner's g-prior, with as much
information, would shrink d and take what that leaves of a clear peak for noise.

Curves are fitted by what each checkpoint has of its own (1 over the diagonal of S⁻¹, `own_covariance`); S as
a whole enters the errors of what is fitted (Liang & Zeger, Biometrika 73, 1986). Problems shift all
checkpoints together; with S as the weight, a line that is too straight for one end of the run was paid for by
a shift at the other (Peelle's puzzle): a plateau of 48 % was fitted at 23 %. Odds of more breaks are those of
the whole S: neighbours share more problems than others, and the slow drift that this makes looks like breaks
to whoever weighs each checkpoint by itself.

Percentiles of bootstrapped estimates held true breaks too seldom: the likelihood of a break has several tops,
breaks lie between checkpoints, and σ is known poorly. This weighs all of it. It says nothing about whether
there is a break at all; that is tested (`segmented.py`), with these evidences as the statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

NOISE = np.linspace(0, 1, 9) ** 2 * 1.5  # standard deviations σ, in the logit; denser where they are small


@dataclass(frozen=True)
class _Noise:
    """What one value of the training noise needs: the model whitened, the line projected out."""

    root: Float[np.ndarray, "n n"]  # of the covariance that weighs
    line: Float[np.ndarray, "n 2"]
    unwhiten: Float[np.ndarray, "n n"]  # inverse of the root
    errors: Float[np.ndarray, "n n"]  # root of the covariance of all errors, shared ones among them
    hinges: Float[np.ndarray, "n places"]
    gram: Float[np.ndarray, "places places"]
    constant: float


class BrokenLinePosterior:
    """Broken lines with 0 … `max_breaks` breaks, for given noise of problems.

    Parameters
    ----------
    x
        Positions of the checkpoints, ascending.
    by_problems
        Covariance S.
    noise
        Variance of training noise in y at which d has its unit information: a rough idea of it will do.
    sensitivity
        Diagonal of W.
    places
        Of breaks on the grid; the cost is cubic in them.
    max_breaks
        Most breaks to consider.
    weighed_by
        Takes the place of S where lines are fitted and breaks are weighed, not in errors; default: S.
    runs
        R.
    between
        Log likelihood of each `NOISE` by what differs between runs; None for one run.
    """

    def __init__(
        self,
        x: Float[np.ndarray, " n"],
        by_problems: Float[np.ndarray, "n n"],
        *,
        noise: float,
        sensitivity: Float[np.ndarray, " n"],
        places: int,
        max_breaks: int,
        weighed_by: Float[np.ndarray, "n n"] | None = None,
        runs: int = 1,
        between: Float[np.ndarray, " noise"] | None = None,
    ):
        self.x = x
        self.places = np.linspace(x[1], x[-2], places)
        self.sets = [_sets(places, k) for k in range(max_breaks + 1)]
        if max_breaks > 2:
            # Three breaks between two checkpoints are one more than the scores there can tell apart.
            gap, triples = np.searchsorted(x, self.places, side="right"), self.sets[3]
            self.sets[3] = triples[gap[triples[:, 0]] != gap[triples[:, 2]]]
        prior = np.log(np.gradient(NOISE)) + (0 if between is None else between)
        weighed_by = by_problems if weighed_by is None else weighed_by
        self._shared, follows = by_problems - weighed_by, np.diag(sensitivity**2)
        rough = self._whitened(weighed_by + noise * follows, 0.0)
        nothing = np.zeros((places, 1))
        self._information = [
            _halves(rough.gram, nothing, sets)[1] - len(sets.T) / 2 * np.log(len(x)) for sets in self.sets
        ]
        self._noises = [
            self._whitened(weighed_by + sigma**2 / runs * follows, float(log))
            for sigma, log in zip(NOISE, prior, strict=True)
        ]

    def _whitened(self, covariance: Float[np.ndarray, "n n"], prior: float) -> _Noise:
        root = np.linalg.cholesky(covariance)
        unwhiten = np.linalg.inv(root)
        line, triangle = np.linalg.qr(unwhiten @ np.column_stack([np.ones_like(self.x), self.x]))
        hinges = unwhiten @ np.maximum(self.x[:, None] - self.places, 0)
        hinges = hinges - line @ (line.T @ hinges)
        gram = hinges.T @ hinges
        gram[np.diag_indices_from(gram)] *= 1 + 1e-9  # neighbours on the grid can be nearly one
        constant = prior - np.log(np.diag(root)).sum() - np.log(np.abs(np.diag(triangle))).sum()
        errors = np.linalg.cholesky(covariance + self._shared)
        return _Noise(root, line, unwhiten, errors, hinges, gram, constant)

    def evidence(self, y: Float[np.ndarray, "n draws"]) -> Float[np.ndarray, "noise breaks draws"]:
        """Log evidence of each value of the noise and number of breaks, for many series at once."""
        found = []
        for one in self._noises:
            rest, cross = self._rest(one, y)
            line = one.constant - (rest**2).sum(0) / 2
            # Linear in the series, so that one matrix product serves all of them.
            factors = self._factors(one, np.eye(len(self.places)), lambda halves, c=cross: halves @ c)
            found.append([line + _log_mean_exp(log) for log in factors])
        return np.array(found)

    def fit(self, y: Float[np.ndarray, " n"]) -> FittedPosterior:
        """The posterior given one series."""
        logs = [[] for _ in self.sets]
        for one in self._noises:
            rest, cross = self._rest(one, y[:, None])
            line = one.constant - float((rest**2).sum()) / 2
            for k, factor in enumerate(self._factors(one, cross, lambda halves: halves)):
                logs[k].append(line + factor[:, 0] - np.log(len(factor)))
        return FittedPosterior(self, y, [np.array(log) for log in logs])

    def _factors(
        self,
        one: _Noise,
        columns: Float[np.ndarray, "places columns"],
        of: Callable[[np.ndarray], np.ndarray],
    ) -> Iterator[Float[np.ndarray, "sets draws"]]:
        """Log Bayes factors against the straight line, for 0, 1, … breaks."""
        for sets, information in zip(self.sets, self._information, strict=True):
            halves, volume = _halves(one.gram, columns, sets)
            yield (of(halves) ** 2).sum(0) / 2 + (information - volume)[:, None]

    @staticmethod
    def _rest(one: _Noise, y: Float[np.ndarray, "n draws"]) -> tuple[np.ndarray, np.ndarray]:
        white = one.unwhiten @ y
        rest = white - one.line @ (one.line.T @ white)
        return rest, one.hinges.T @ rest

    def mean(
        self, noise: int, y: Float[np.ndarray, " n"], places: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " n"]:
        """Generalised least squares with given noise and breaks."""
        one = self._noises[noise]
        _, cross = self._rest(one, y[:, None])
        slopes = np.linalg.solve(one.gram[np.ix_(places, places)], cross[places, 0])
        return one.root @ (one.line @ (one.line.T @ (one.unwhiten @ y)) + one.hinges[:, places] @ slopes)

    def draw(
        self,
        noise: int,
        y: Float[np.ndarray, " n"],
        sets: Int[np.ndarray, "draws k"],
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "n draws"]:
        """Curves with given noise and breaks: fits to the series with errors of all kinds added."""
        one, (draws, k) = self._noises[noise], sets.shape
        series = y[:, None] + one.errors @ rng.standard_normal((len(y), draws))
        _, cross = self._rest(one, series)
        white = one.line @ (one.line.T @ (one.unwhiten @ series))
        if k:
            gram = one.gram[sets[:, :, None], sets[:, None, :]]
            slopes = np.linalg.solve(gram, np.take_along_axis(cross.T, sets, axis=1)[:, :, None])
            white = white + (one.hinges.T[sets].transpose(0, 2, 1) @ slopes)[..., 0].T
        return one.root @ white


class FittedPosterior:
    """Weights of every noise and set of breaks, given one series.

    Attributes
    ----------
    weights : (breaks,)
        Of 0, 1, … breaks.
    """

    def __init__(self, model: BrokenLinePosterior, y: Float[np.ndarray, " n"], logs: Sequence[np.ndarray]):
        self._model, self._y = model, y
        self._logs = logs  # (noise, sets) for each number of breaks
        total = np.array([np.logaddexp.reduce(log, axis=None) for log in logs])
        self.weights = np.exp(total - np.logaddexp.reduce(total))

    def noise(self, breaks: int) -> Float[np.ndarray, " noise"]:
        """Weights of `NOISE`, given the number of breaks."""
        log = np.logaddexp.reduce(self._logs[breaks], axis=1)
        return np.exp(log - np.logaddexp.reduce(log))

    def breaks(self, number: int, *, level: float) -> Float[np.ndarray, "number 2"]:
        """Interval of the position of each break, given that there are so many."""
        log, places = np.logaddexp.reduce(self._logs[number], axis=0), self._model.places
        weight, half = np.exp(log - np.logaddexp.reduce(log)), (places[1] - places[0]) / 2
        edges = np.append(places - half, places[-1] + half)
        ends = [
            np.interp(
                [(1 - level) / 2, (1 + level) / 2],
                np.append(0, np.cumsum(np.bincount(places_of, weight, minlength=len(places)))),
                edges,
            )
            for places_of in self._model.sets[number].T
        ]
        return np.array(ends).reshape(number, 2)

    def likeliest(self, number: int) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " number"]]:
        """The curve with the likeliest breaks, and the checkpoints nearest to them, all different."""
        model, log = self._model, np.logaddexp.reduce(self._logs[number], axis=0)
        nearest = np.abs(model.places[:, None] - model.x).argmin(1)[model.sets[number]]
        apart = (np.diff(nearest, axis=1) > 0).all(1)
        best = int(np.where(apart, log, -np.inf).argmax())
        noise = int(self._logs[number][:, best].argmax())
        return model.mean(noise, self._y, model.sets[number][best]), nearest[best]

    def curves(
        self, numbers: Sequence[int], draws: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "n draws"]:
        """Draws of curves, averaged over some numbers of breaks."""
        flat = np.concatenate([self._logs[k].ravel() for k in numbers])
        cells = np.sort(rng.choice(len(flat), draws, p=np.exp(flat - np.logaddexp.reduce(flat))))
        found, start = [], 0
        for k in numbers:
            size = self._logs[k].size
            noise, which = np.divmod(
                cells[(cells >= start) & (cells < start + size)] - start, self._logs[k].shape[1]
            )
            found += [
                self._model.draw(number, self._y, self._model.sets[k][which[noise == number]], rng)
                for number in np.unique(noise)
            ]
            start += size
        return rng.permutation(np.concatenate(found, axis=1), axis=1)


def own_covariance(by_problems: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """What each checkpoint has of its own: its variance given all others, on the diagonal."""
    return np.diag(1 / np.diag(np.linalg.inv(by_problems)))


@lru_cache
def _sets(places: int, k: int) -> Int[np.ndarray, "sets k"]:
    return np.array(list(combinations(range(places), k)), int)


def _log_mean_exp(values: Float[np.ndarray, "sets draws"]) -> Float[np.ndarray, " draws"]:
    top = values.max(0)
    return top + np.log(np.exp(values - top).mean(0))


def _halves(
    gram: Float[np.ndarray, "places places"],
    cross: Float[np.ndarray, "places columns"],
    sets: Int[np.ndarray, "sets k"],
) -> tuple[Float[np.ndarray, "k sets columns"], Float[np.ndarray, " sets"]]:
    """R⁻¹c and log det R of every set of hinges, R R' = G: the sum of squares is what the set explains."""
    rows: list[list[np.ndarray]] = []  # of R, the diagonal last
    halves: list[np.ndarray] = []
    for k, hinge in enumerate(sets.T):
        row: list[np.ndarray] = []
        for other in range(k):
            below = sum((row[i] * rows[other][i] for i in range(other)), np.zeros(len(sets)))
            row.append((gram[hinge, sets[:, other]] - below) / rows[other][-1])
        own = gram[hinge, hinge] - sum((entry**2 for entry in row), np.zeros(len(sets)))
        rows.append([*row, np.sqrt(np.maximum(own, 1e-9 * gram[hinge, hinge]))])
        left = cross[hinge]
        for entry, half in zip(row, halves, strict=True):
            left = left - entry[:, None] * half
        halves.append(left / rows[-1][-1][:, None])
    volume = sum((np.log(row[-1]) for row in rows), np.zeros(len(sets)))
    return np.array(halves).reshape(sets.shape[1], len(sets), cross.shape[1]), volume
