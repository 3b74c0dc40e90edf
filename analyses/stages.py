"""Stages of a series: where its score rises, falls and is flat, and whether the data can tell.

The score is fitted against log10(step) by continuous lines in the logit with 0 … 3 breaks (`segmented.py`),
and the stretches between breaks are named (`shapes.py`). The number of breaks is the first that is not
rejected against larger ones, by tests whose null distribution is simulated; it is not read off BIC, which
finds breaks in flat curves. Intervals are those of a posterior that averages over the number and the places
of the breaks and over the training noise (`curve_posterior.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from babelscope.analyses.power import POWER, Needed, needed
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.shapes import (
    FLAT,
    UNRESOLVED,
    Stretch,
    in_words,
    levels_off,
    name_shape,
    rises_then_falls,
)
from babelscope.analyses.stage_model import ScoreModel
from babelscope.core.errors import InputError
from babelscope.core.stats import LEVEL, Contrast, percentile_interval, wilson_interval

TEST = 0.05  # chance of a break too many, whatever the level of intervals
BUMP = (
    0.05  # what must not be missed before "flat" is said: the published curve rises by 4 points, falls by 7
)


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
        Where the trend changes. An interval is given that there are so many breaks: it holds the true break
        in `level` of the series in which that number was found and is right.
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
        Fitted peak minus start, and minus end, averaged over curves with at least one break.
    rises_and_falls_ : bool
        Whether both are resolved, and a stretch that rises comes before one that falls: the precondition of
        Algorithm 1.
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
        vars(self).pop("needed_", None)
        rng = np.random.default_rng(self.seed)
        self.curve_, used = curve, curve.steps > 0
        self._varies = bool(curve.solved[used].any() and (curve.solved < curve.total)[used].any())
        self._model = model = ScoreModel(curve, max_breaks=self.max_breaks)
        self.training_noise_ = float(np.sqrt(model.design.noise))
        self.posterior_ = model.posterior.weights.tolist()
        self.p_values_ = model.p_values(size=TEST, draws=self.draws, rng=rng)
        found = sum(p <= TEST for p in self.p_values_)

        def draws(numbers: Sequence[int]) -> Float[np.ndarray, "draws n"]:
            return model.curves(numbers, draws=self.draws, rng=rng)

        averaged, self.peaked_draws_ = draws(range(len(model.fits))), draws(range(1, len(model.fits)))
        self.fitted_, self.band_ = np.full(len(used), np.nan), np.full((len(used), 2), np.nan)
        self.fitted_[used] = averaged.mean(0)
        self.band_[used] = percentile_interval(averaged, level=self.level)
        self.breaks_ = self._breaks(found)
        given, kept = draws([found]), model.fits[found].breaks
        self._stretches = self._joined(given, kept)
        turns = np.append(0, kept)
        turn = turns[given.mean(0)[turns].argmax()]
        lead = self._change(given[:, -1] - given[:, turn])
        self.shape_, self.stages_ = name_shape(self._stretches, lead=lead)
        self._keep_peak()
        self._bump_power = None if found else self._power_of_a_bump()
        moves = any(stretch.sign != "0" for stretch in self._stretches)
        self.resolved_ = moves or (self._bump_power or 0.0) >= POWER
        if not self.resolved_:
            self.shape_, self.stages_ = UNRESOLVED, []
        return self

    @cached_property
    def needed_(self) -> Needed | None:
        """What would resolve the curve; computed when first asked for, since it is most of the work."""
        if self.resolved_ or not self._varies:
            return None
        guess = self._model.fits[1 + int(np.argmax(self.posterior_[1:]))]
        return needed(self._model.design, self._model.x, guess.eta, level=1 - TEST, seed=self.seed)

    @property
    def verdict_(self) -> str:
        """The shape and its changes, or "not resolvable" and what would resolve it."""
        said, found = in_words(self._stretches, unit=self.curve_.unit), len(self.breaks_)
        if not self._varies:
            said = "no problem is solved" if not self.curve_.solved.any() else "every problem is solved"
            said += " at any checkpoint" if not self.curve_.solved.any() else " at every checkpoint"
        trend = (
            f"{found} break{'s' * (found > 1)}, p = {self.p_values_[found - 1]:.3f} against {found - 1}"
            if found
            else f"a straight line explains the checkpoints (p = {self.p_values_[0]:.2f}); with"
            f" {int(self.curve_.worth.min()):,} problems a bump of {100 * BUMP:.0f} points would be seen in"
            f" {self._bump_power:.0%} of such runs"
        )
        if self.resolved_:
            return f"{self.shape_}: {said}; {trend}."
        remedy = self.needed_.in_words() if self.needed_ else "ask problems that some checkpoints solve"
        return f"{UNRESOLVED}: {said}; {trend}; {remedy}."

    def to_document(self) -> dict[str, Any]:
        """The whole answer, ready for JSON: null where step 0 is not fitted, and where none is best."""
        curve, undefined = self.curve_, np.isnan(self.fitted_)
        rate, worth = curve.solved / curve.total, curve.worth
        score = np.column_stack([rate, wilson_interval(rate * worth, worth, level=self.level)])
        fitted = np.column_stack([self.fitted_, self.band_]).astype(object)
        fitted[undefined] = None
        best = None
        if self.best_step_ is not None and self.best_interval_ is not None:
            low, high = self.best_interval_
            best = {"step": self.best_step_, "low": low, "high": high}
        return {
            "verdict": self.verdict_,
            "shape": self.shape_,
            "resolved": self.resolved_,
            "needed": asdict(self.needed_) if self.needed_ else None,
            "rises_and_falls": self.rises_and_falls_,
            "stages": [asdict(stage) for stage in self.stages_],
            "breaks": [asdict(one) for one in self.breaks_],
            "p_values": self.p_values_,
            "posterior": self.posterior_,
            "best": best,
            "rise": asdict(self.rise_),
            "fall": asdict(self.fall_),
            "training_noise": self.training_noise_,
            "training_noise_from": "runs" if curve.runs else "neighbouring checkpoints",
            "problem_sharing": "independent" if curve.outcomes is None else "measured",
            "settings": {name: getattr(self, name) for name in ("max_breaks", "level", "draws", "seed")},
            "x": curve.unit,
            "runs": max(len(curve.runs), 1),
            "steps": curve.steps.tolist(),
            "solved": curve.solved.tolist(),
            "total": curve.total.tolist(),
            **dict(zip(("score", "score_low", "score_high"), score.T.tolist(), strict=True)),
            **dict(zip(("fitted", "fitted_low", "fitted_high"), fitted.T.tolist(), strict=True)),
        }

    def _breaks(self, number: int) -> list[Break]:
        """The likeliest breaks, at checkpoints, with intervals, whose ends may lie between them."""
        at = self._model.steps[self._model.fits[number].breaks]
        low, high = 10 ** self._model.posterior.breaks(number, level=self.level).T
        ends = np.column_stack([at, np.minimum(np.floor(low), at), np.maximum(np.ceil(high), at)])
        return [Break(*row) for row in ends.astype(int).tolist()]

    def _keep_peak(self):
        draws, steps = self.peaked_draws_, self._model.steps
        peak = int(draws.mean(0).argmax())
        # All at one checkpoint: a draw's own peak exceeds its end by construction, on a plateau too.
        self.rise_, self.fall_ = (self._change(draws[:, peak] - draws[:, end]) for end in (0, -1))
        # Averaged over numbers of breaks, a plateau may be below the peak; as it is told, it must fall, too.
        resolved = self.rise_.low > 0 and self.fall_.low > 0
        self.rises_and_falls_ = resolved and rises_then_falls(self._stretches)
        self.best_draws_ = steps[draws.argmax(1)]
        self.best_step_ = self.best_interval_ = None
        if self.shape_ != FLAT and self._varies:
            low, high = percentile_interval(self.best_draws_, level=self.level)
            self.best_step_ = int(steps[peak])
            self.best_interval_ = min(int(low), self.best_step_), max(int(high), self.best_step_)

    def _change(self, draws: Float[np.ndarray, " draws"]) -> Contrast:
        low, high = percentile_interval(draws, level=self.level)
        return Contrast(float(draws.mean()), float(low), float(high))

    def _joined(self, draws: Float[np.ndarray, "draws n"], breaks: Int[np.ndarray, " k"]) -> list[Stretch]:
        """Parts between breaks, joined while two neighbours go the same way at like pace."""
        steps = self._model.steps
        kept = [0, *breaks.tolist(), len(steps) - 1]
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
            needless = [
                edge
                for edge, left, right in joints
                if left.sign == right.sign and not levels_off(left, right)
            ]
            if not needless:
                return stretches
            kept = [edge for edge in kept if edge not in needless]

    def _power_of_a_bump(self) -> float:
        """How often a bump on the straight line would be found."""
        model = self._model
        return model.design.power(model.x, model.bumped(BUMP), level=1 - TEST, seed=self.seed)
