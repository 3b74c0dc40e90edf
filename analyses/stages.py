"""Stages of a series: where its score rises, falls and is flat, and whether the data can tell.

The score is fitted against log10(step) by continuous lines in the logit with 0 … 3 breaks (`segmented.py`),
and the stretches between breaks are named (`shapes.py`). The number of breaks is the first that is not
rejected against larger ones, by tests whose null distribution is simulated; it is not read off BIC, which
finds breaks in flat curves. Intervals are those of a posterior that averages over the number and the places
of the breaks and over the training noise (`curve_posterior.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit

from babelscope.analyses.curve_posterior import NOISE, BrokenLinePosterior, FittedPosterior
from babelscope.analyses.power import POWER, Design, Needed, needed
from babelscope.analyses.run_noise import RunNoise, between_runs
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.segmented import Fit, SegmentedLogit, shrunk_correlation, training_noise
from babelscope.analyses.shapes import FLAT, UNRESOLVED, Stretch, in_words, name_shape
from babelscope.core.errors import InputError
from babelscope.core.stats import LEVEL, Contrast, percentile_interval

TEST = 0.05  # chance of a break too many, whatever the level of intervals
BUMP = (
    0.05  # what must not be missed before "flat" is said: the published curve rises by 4 points, falls by 7
)
PLACES = 40  # of breaks, for intervals
TEST_PLACES = 16  # and for the tests, which weigh them for every simulated series


@dataclass(frozen=True)
class Break:
    """A step at which the trend changes, with its interval."""

    step: int
    low: int
    high: int


class StageDetector:
    """Breaks, shape and stages of one score curve.

    Parameters
    ----------
    max_breaks
        Most breaks to consider, 1 to 3.
    level
        Of every interval. The tests are held to 5 % whatever it is.
    draws
        Simulated series behind each p-value, and posterior draws behind each interval.
    seed
        Of the simulation.

    Attributes
    ----------
    breaks_ : list of Break
        Where the trend changes. An interval is given that there are so many breaks: it holds the true break in
        `level` of the series in which that number was found and is right.
    p_values_ : list of float
        Of k breaks against more, from k = 0 up to the first that is not rejected.
    posterior_ : list of float
        Weight of 0, 1, … breaks. A companion of the tests, which alone decide.
    shape_ : str
        One of `shapes.SHAPES`, "best at the end", "not resolvable", or a rarer one's rises and falls.
    resolved_ : bool
        Whether there is a shape; "flat" only where a rise and fall of 5 points would have been seen.
    verdict_ : str
        One sentence: the shape and its changes, or "not resolvable" and what would resolve it.
    needed_ : Needed or None
        What would resolve it; None where it is resolved, or nothing distinguishes the checkpoints.
    stages_ : list of Stage
        Empty where nothing is resolved.
    rise_, fall_ : Contrast
        Peak minus start, and minus end, each curve's own peak: neither can be negative.
    rises_and_falls_ : bool
        Whether there is a break, and both differences are resolved at the checkpoint of the fitted peak: the
        precondition of Algorithm 1.
    best_step_, best_interval_ : int, (int, int); or None
        Step of the fitted peak, of curves with at least one break: the best of a straight line is one of its
        ends whatever the data. None where the score is flat: any checkpoint is as good.
    best_draws_, peaked_draws_ : (draws,), (draws, n)
        Draws of the best step, and of the curves after step 0 that they are the peaks of.
    fitted_, band_ : (n,), (n, 2)
        Probability at each step, averaged over breaks, and its interval; NaN at step 0.
    training_noise_ : float
        Standard deviation, in the logit, by which checkpoints of one run differ beyond their problems.
    """

    def __init__(self, *, max_breaks: int = 3, level: float = LEVEL, draws: int = 999, seed: int = 0):
        self.max_breaks = max_breaks
        self.level = level
        self.draws = draws
        self.seed = seed

    def fit(self, curve: ScoreCurve) -> Self:
        """Find the stages of `curve`; `InputError` for a level or number of breaks without meaning."""
        if not 0.5 < self.level < 1:
            raise InputError(f"level = {self.level}; give a confidence level such as 0.95")
        if self.max_breaks not in (1, 2, 3):
            raise InputError(f"max_breaks = {self.max_breaks}; give 1, 2 or 3")
        rng = np.random.default_rng(self.seed)
        self.curve_, used = curve, curve.steps > 0
        self.varies_ = bool(curve.solved[used].any() and (curve.solved < curve.total)[used].any())
        steps, x = curve.steps[used], np.log10(curve.steps[used])
        worth = curve.worth[used]
        solved = worth * (curve.solved / curve.total)[used]
        shared = np.eye(len(x)) if curve.outcomes is None else shrunk_correlation(curve.outcomes[:, used])
        between, runs = (between_runs(curve), len(curve.runs)) if curve.runs else (None, 1)
        noise = training_noise(x, solved, worth, shared)[0] if between is None else between.variance / runs
        self.training_noise_ = float(np.sqrt(noise * runs))
        model = SegmentedLogit(x, worth, correlation=shared, noise=noise, max_breaks=self.max_breaks)
        fits = [model.fit(solved, breaks) for breaks in range(model.max_breaks + 1)]

        around = model.by_problems(fits[-1].eta)
        posterior = _lines(model, around, PLACES, runs, between).fit(model.empirical(solved))
        self.posterior_ = posterior.weights.tolist()
        self.p_values_ = self._test(model, around, solved, fits, posterior, runs, between, rng)
        found = sum(p <= TEST for p in self.p_values_)

        def draws(numbers: Sequence[int]) -> Float[np.ndarray, "draws n"]:
            return model.probability(posterior.curves(numbers, self.draws, rng)).T

        self._keep_curve(used, draws(range(len(fits))))
        self.peaked_draws_ = draws(range(1, len(fits)))
        self.breaks_ = self._breaks(steps, fits[found], posterior)
        given = draws([found])
        stretches = self._stretches(steps, fits[found], given)
        turns = np.append(0, fits[found].breaks)
        turn = turns[given.mean(0)[turns].argmax()]
        self.shape_, self.stages_ = name_shape(stretches, lead=self._change(given[:, -1] - given[:, turn]))
        self._keep_peak(steps, given if found else draws([1]), found)
        self._judge(stretches, model, fits, runs, noise * runs)
        return self

    def _test(
        self,
        model: SegmentedLogit,
        around: Float[np.ndarray, "n n"],
        solved: Float[np.ndarray, " n"],
        fits: Sequence[Fit],
        posterior: FittedPosterior,
        runs: int,
        between: RunNoise | None,
        rng: np.random.Generator,
    ) -> list[float]:
        lines, p_values = _lines(model, around, TEST_PLACES, runs, between), []
        for k, null in enumerate(fits[:-1]):
            noise = rng.choice(NOISE, self.draws, p=posterior.noise(k)) ** 2 / runs
            p_values.append(model.test(solved, null, lines, noise=noise, rng=rng))
            if p_values[-1] > TEST:
                break
        return p_values

    def to_document(self) -> dict[str, Any]:
        """The whole answer, ready for JSON; null where step 0 is not fitted."""
        from babelscope.analyses.stage_document import stage_document  # which is about detectors

        return stage_document(self)

    def _keep_curve(self, used: np.ndarray, draws: Float[np.ndarray, "draws n"]):
        self.fitted_ = np.full(len(used), np.nan)
        self.band_ = np.full((len(used), 2), np.nan)
        self.fitted_[used] = draws.mean(0)
        self.band_[used] = percentile_interval(draws, level=self.level)

    def _breaks(self, steps: Int[np.ndarray, " n"], chosen: Fit, posterior: FittedPosterior) -> list[Break]:
        """The likeliest breaks, at checkpoints, with intervals, which end between them."""
        at = steps[chosen.breaks]
        low, high = 10 ** posterior.breaks(len(at), level=self.level).T
        ends = np.column_stack([at, np.minimum(np.floor(low), at), np.maximum(np.ceil(high), at)])
        return [Break(*row) for row in ends.astype(int).tolist()]

    def _keep_peak(self, steps: Int[np.ndarray, " n"], given: Float[np.ndarray, "draws n"], found: int):
        draws = self.peaked_draws_
        self.best_draws_ = steps[draws.argmax(1)]
        self.rise_ = self._change(draws.max(1) - draws[:, 0])
        self.fall_ = self._change(draws.max(1) - draws[:, -1])
        # At one checkpoint: a draw's own peak exceeds its end by construction.
        peak = given.mean(0).argmax()
        differences = [self._change(given[:, peak] - given[:, end]) for end in (0, -1)]
        self.rises_and_falls_ = found > 0 and all(one.low > 0 for one in differences)
        if self.shape_ == FLAT or not self.varies_:
            self.best_step_ = self.best_interval_ = None
            return
        self.best_step_ = int(steps[draws.mean(0).argmax()])
        low, high = percentile_interval(self.best_draws_, level=self.level)
        self.best_interval_ = min(int(low), self.best_step_), max(int(high), self.best_step_)

    def _change(self, draws: Float[np.ndarray, " draws"]) -> Contrast:
        low, high = percentile_interval(draws, level=self.level)
        return Contrast(float(draws.mean()), float(low), float(high))

    def _stretches(
        self, steps: Int[np.ndarray, " n"], chosen: Fit, draws: Float[np.ndarray, "draws n"]
    ) -> list[Stretch]:
        """Parts between breaks, joined while two neighbours go the same way."""
        kept = [0, *chosen.breaks.tolist(), len(steps) - 1]
        while True:
            stretches = [
                Stretch(
                    int(steps[start]),
                    int(steps[end]),
                    self._change(draws[:, end] - draws[:, start]),
                    least=1 / int(self.curve_.worth.max()),
                )
                for start, end in pairwise(kept)
            ]
            joints = zip(kept[1:], stretches, stretches[1:], strict=False)
            needless = [edge for edge, left, right in joints if left.sign == right.sign]
            if not needless:
                return stretches
            kept = [edge for edge in kept if edge not in needless]

    def _judge(
        self,
        stretches: Sequence[Stretch],
        model: SegmentedLogit,
        fits: Sequence[Fit],
        runs: int,
        noise: float,
    ):
        """Verdict: what is resolved, or what resolving it would take."""
        found, self.needed_ = len(self.breaks_), None
        design = Design(model.x, model.total, model.correlation, noise, runs, model.max_breaks)
        self.resolved_ = any(stretch.sign != "0" for stretch in stretches)
        if found:
            against = f"p = {self.p_values_[found - 1]:.3f} against {found - 1}"
            trend = f"{found} break{'s' * (found > 1)}, {against}"
        else:
            bump = _bumped(model.x, fits[0].eta)
            power = design.power(model.x, bump, level=1 - TEST, seed=self.seed)
            self.resolved_ |= power >= POWER
            trend = (
                f"a straight line explains the checkpoints (p = {self.p_values_[0]:.2f}); with"
                f" {int(model.total.min()):,} problems a bump of {100 * BUMP:.0f} points would be seen in"
                f" {power:.0%} of such runs"
            )
        said = in_words(stretches, unit=self.curve_.unit) if self.varies_ else _constant(self.curve_)
        if self.resolved_:
            self.verdict_ = f"{self.shape_}: {said}; {trend}."
            return
        self.shape_, self.stages_ = UNRESOLVED, []
        remedy = "nothing tells its checkpoints apart, so ask easier problems, or harder ones"
        if self.varies_:
            guess = fits[1 + int(np.argmax(self.posterior_[1:]))]
            self.needed_ = needed(design, model.x, guess.eta, level=1 - TEST, seed=self.seed)
            remedy = self.needed_.in_words()
        self.verdict_ = f"{UNRESOLVED}: {said}; {trend}; {remedy}."


def _lines(
    model: SegmentedLogit,
    around: Float[np.ndarray, "n n"],
    places: int,
    runs: int,
    between: RunNoise | None,
) -> BrokenLinePosterior:
    lasting = between.offset / runs if between else 0.0  # shifts the whole curve
    return BrokenLinePosterior(
        model.x,
        around + lasting,
        places=places,
        max_breaks=model.max_breaks,
        runs=runs,
        between=between.log_likelihood(NOISE) if between else None,
    )


def _bumped(x: Float[np.ndarray, " n"], line: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """A bump on a straight line, highest in the middle; away from the nearer of 0 and 1, where there is room."""
    p = expit(line)
    height = BUMP if p.mean() < 0.5 else -BUMP
    bump = np.interp(x, [x[0], (x[0] + x[-1]) / 2, x[-1]], [0, height, 0])
    return logit((p + bump).clip(1e-6, 1 - 1e-6))


def _constant(curve: ScoreCurve) -> str:
    return (
        "no problem is solved at any checkpoint"
        if not curve.solved.any()
        else "all problems are always solved"
    )
