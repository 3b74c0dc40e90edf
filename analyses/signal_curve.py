"""Stages of any signal that is measured with bootstrap draws: losses, shares, numbers of neurons.

    f(y(x)) = b0 + b1·x + Σ_k d_k·max(x − τ_k, 0) + noise,      x = log10(step),   k = 1 … K

with the search for breaks of `lines_between.py`. As for scores (`stages.py`), the number of breaks is the
first that is not rejected against one more, by tests with a simulated null. f makes changes comparable along
the run and noise alike at all checkpoints:

    log       losses: what is left to learn shrinks by factors
    logit     shares strictly inside (0, 1)
    arcsine   arcsin √y, of shares that may be 0 or 1
    root      √y, of counts, which may be 0 (both: Bartlett, Biometrics 3, 1947)

Noise is that of `signal_noise.py`: what was sampled, which is mostly common to all checkpoints and moves no
break, and what training adds to each. One break more is judged by (RSS_k − RSS_{k+1}) / RSS_K, which does not
depend on the scale of the noise: that is estimated from the same few checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit

from babelscope.analyses.lines_between import LinesBetween
from babelscope.analyses.score_curve import FEWEST_STEPS
from babelscope.analyses.segmented import shrunk_correlation
from babelscope.analyses.shapes import BABEL, NOUNS, SHAPES, STAGES, UNRESOLVED, VERBS, Stage, Stretch
from babelscope.analyses.signal_noise import Noise
from babelscope.analyses.stages import POWER, Break
from babelscope.core.errors import InputError
from babelscope.core.stats import LEVEL, Contrast, percentile_interval

SCALES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "log": (np.log, np.exp),
    "logit": (logit, expit),
    "arcsine": (lambda y: np.arcsin(np.sqrt(y)), lambda z: np.sin(z.clip(0, np.pi / 2)) ** 2),
    "root": (np.sqrt, lambda z: z.clip(0) ** 2),
}


@dataclass(frozen=True, eq=False)
class SignalCurve:
    """One value per checkpoint, and how all of them vary together.

    Attributes
    ----------
    name, unit
        "the held-out loss in PHP", "nats".
    scale
        One of `SCALES`.
    least
        The smallest change that means anything, in the unit; what is smaller counts as flat.
    steps : (n,) int
        Ascending. Step 0, where it is given, is shown but not fitted.
    values : (n,)
        NaN where the signal is undefined.
    draws : (draws, n)
        Bootstrap draws, each of all checkpoints together.
    clusters
        How many documents, concepts, problems or blocks were resampled.

    Raises
    ------
    InputError
        For arrays that do not fit, steps out of order, values outside of the scale, or too few of them.
    """

    name: str
    unit: str
    scale: str
    least: float
    steps: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    draws: Float[np.ndarray, "draws n"]
    clusters: int

    def __post_init__(self):
        n = len(self.steps)
        if self.values.shape != (n,) or self.draws.ndim != 2 or self.draws.shape[1] != n:
            raise InputError(
                f"{self.name}: values of shape {self.values.shape} and draws of shape {self.draws.shape} for"
                f" {n} steps; give one value and one column of draws per step"
            )
        if (np.diff(self.steps) <= 0).any() or (self.steps < 0).any():
            raise InputError(f"{self.name}: steps must increase from 0 or more, not {self.steps.tolist()}")
        with np.errstate(all="ignore"):
            strange = np.isfinite(self.values) & ~np.isfinite(SCALES[self.scale][0](self.values))
        if strange.any():
            raise InputError(
                f"{self.name} is {self.values[strange][0]:g} at step {self.steps[strange][0]}, which has no"
                f" {self.scale}; leave the step out or take another scale"
            )
        if self.clusters < 2:
            raise InputError(
                f"{self.name} rests on {self.clusters} document, problem, concept or block, which cannot be"
                " resampled; give at least two"
            )
        if (defined := int(self.used.sum())) < FEWEST_STEPS:
            raise InputError(
                f"{self.name} is defined at {defined} checkpoints after step 0; a fit takes at least"
                f" {FEWEST_STEPS}, so measure more"
            )

    @property
    def used(self) -> Bool[np.ndarray, " n"]:
        """Checkpoints that are fitted."""
        return (self.steps > 0) & np.isfinite(self.values)


class SignalDetector:
    """Breaks and shape of one signal.

    Parameters
    ----------
    max_breaks
        Most breaks to consider.
    level
        Of every interval; one less it is the chance of finding a break too many.
    draws
        Simulated series behind each p-value and each interval.
    seed
        Of the simulation.

    Attributes
    ----------
    breaks_, p_values_, resolved_, verdict_, fitted_, band_
        As those of `StageDetector`, in the signal's unit.
    shape_, stages_
        Rises, falls and flat stretches. The names of the stages are the score's alone.
    interval_ : (n, 2)
        Of each value, from its draws.
    training_noise_ : float
        Standard deviation, on the scale, by which checkpoints differ beyond what was sampled.
    """

    def __init__(self, *, max_breaks: int = 3, level: float = LEVEL, draws: int = 399, seed: int = 0):
        self.max_breaks = max_breaks
        self.level = level
        self.draws = draws
        self.seed = seed

    def fit(self, curve: SignalCurve) -> Self:
        """Find the breaks of `curve`; `InputError` where nothing in it varies."""
        rng = np.random.default_rng(self.seed)
        forward, back = SCALES[curve.scale]
        self.curve_, used = curve, curve.used
        x, y = np.log10(curve.steps[used]), forward(curve.values[used])
        self.interval_ = percentile_interval(curve.draws, level=self.level, clusters=curve.clusters)
        noise = Noise(x, y, _sampling(curve))
        self.training_noise_ = float(np.sqrt(noise.training))
        lines = LinesBetween(x, noise.weights, max_breaks=self.max_breaks)

        fits = [lines.curves(y[:, None], lines.places(y[:, None], k))[:, 0] for k in range(lines.most + 1)]
        self.p_values_, null = [], np.empty(0)
        for k in range(lines.most):
            simulated = fits[k][lines.checkpoints, None] + noise.draw(self.draws, rng)
            gain = lines.gain(np.column_stack([y, simulated]), k)
            null = null if k else gain[1:]
            self.p_values_.append(float((1 + (gain[1:] >= gain[0]).sum()) / (1 + self.draws)))
            if self.p_values_[-1] > 1 - self.level:
                break
        found = sum(p <= 1 - self.level for p in self.p_values_)

        again = fits[found][lines.checkpoints, None] + noise.draw(self.draws, rng)
        places = lines.places(again, found)
        at = lines.grid[lines.places(y[:, None], found)[0]]
        where = (10**lines.x).round().astype(int)
        ends = 10 ** percentile_interval(lines.blurred(places, rng), level=self.level)
        self.breaks_ = [
            Break(*row) for row in np.column_stack([where[at], ends.round()]).astype(int).tolist()
        ]
        values, drawn = back(fits[found]), back(lines.curves(again, places))
        self.fitted_, self.band_ = np.full(len(used), np.nan), np.full((len(used), 2), np.nan)
        self.fitted_[used] = values[lines.checkpoints]
        self.band_[used] = percentile_interval(drawn[lines.checkpoints].T, level=self.level)
        stretches = self._stretches(where, at.tolist(), values, drawn)
        power = 1.0
        if not found:
            bump = _bump(x, self.fitted_[used], curve)
            seen = lines.gain(bump[:, None] + noise.draw(self.draws, rng), 0)
            power = float((seen > np.quantile(null, self.level)).mean())
        self._judge(stretches, power)
        return self

    def to_document(self) -> dict[str, Any]:
        """The whole answer, ready for JSON; null where the signal is undefined or not fitted."""
        curve = self.curve_
        columns = {
            "value": curve.values,
            **dict(zip(("value_low", "value_high"), self.interval_.T, strict=True)),
            "fitted": self.fitted_,
            **dict(zip(("fitted_low", "fitted_high"), self.band_.T, strict=True)),
        }
        return {
            "name": curve.name,
            "unit": curve.unit,
            "scale": curve.scale,
            "verdict": self.verdict_,
            "shape": self.shape_,
            "resolved": self.resolved_,
            "stages": [asdict(stage) for stage in self.stages_],
            "breaks": [asdict(one) for one in self.breaks_],
            "p_values": self.p_values_,
            "training_noise": self.training_noise_,
            "settings": {name: getattr(self, name) for name in ("max_breaks", "level", "draws", "seed")},
            "steps": curve.steps.tolist(),
            **{name: [None if np.isnan(v) else float(v) for v in all_] for name, all_ in columns.items()},
        }

    def _stretches(
        self,
        steps: Int[np.ndarray, " n"],
        at: list[int],
        values: Float[np.ndarray, " n"],
        draws: Float[np.ndarray, "n draws"],
    ) -> list[Stretch]:
        """Parts between breaks, joined while two neighbours go the same way."""
        kept = [0, *at, len(steps) - 1]
        while True:
            stretches = []
            for start, end in pairwise(kept):
                low, high = percentile_interval(draws[end] - draws[start], level=self.level)
                change = Contrast(float(values[end] - values[start]), float(low), float(high))
                stretches.append(Stretch(int(steps[start]), int(steps[end]), change, least=self.curve_.least))
            joints = zip(kept[1:], stretches, stretches[1:], strict=False)
            needless = [edge for edge, left, right in joints if left.sign == right.sign]
            if not needless:
                return stretches
            kept = [edge for edge in kept if edge not in needless]

    def _judge(self, stretches: Sequence[Stretch], power: float):
        pattern, curve, found = "".join(one.sign for one in stretches), self.curve_, len(self.breaks_)
        if found:
            trend = (
                f"{found} break{'s' * (found > 1)}, p = {self.p_values_[found - 1]:.3f} against {found - 1}"
            )
        else:
            trend = (
                f"a straight line explains the checkpoints (p = {self.p_values_[0]:.2f}); a bump of"
                f" {in_unit(curve.least, curve.unit)} would be seen in {power:.0%} of such runs"
            )
        named = SHAPES.get(pattern, "")
        shape = named if named not in ("", BABEL) else "-".join(NOUNS[sign] for sign in pattern)
        self.resolved_ = pattern != "0" or power >= POWER
        self.shape_ = shape if self.resolved_ else UNRESOLVED
        self.stages_ = [Stage(STAGES[one.sign], one.start, one.end) for one in stretches if self.resolved_]
        self.verdict_ = f"{self.shape_}: {_in_words(stretches, curve)}; {trend}."


def _sampling(curve: SignalCurve) -> Float[np.ndarray, "n n"]:
    """Covariance of the draws on the scale, over those that are defined at every checkpoint used."""
    with np.errstate(all="ignore"):
        draws = SCALES[curve.scale][0](curve.draws[:, curve.used])
    draws = draws[np.isfinite(draws).all(1)]
    if len(draws) < curve.used.sum():
        raise InputError(
            f"{curve.name}: only {len(draws)} of {len(curve.draws)} draws are defined at all checkpoints;"
            " measure more"
        )
    spread = draws.std(0, ddof=1) * np.sqrt(curve.clusters / (curve.clusters - 1))
    return spread[:, None] * shrunk_correlation(draws) * spread


def _bump(
    x: Float[np.ndarray, " n"], line: Float[np.ndarray, " n"], curve: SignalCurve
) -> Float[np.ndarray, " n"]:
    """On the scale: the line with a bump of the least change, in the middle of the run."""
    height = np.interp(x, [x[0], (x[0] + x[-1]) / 2, x[-1]], [0, curve.least, 0])
    if curve.scale in ("logit", "arcsine") and line.mean() > 0.5:  # away from the nearer of 0 and 1
        height = -height
    return SCALES[curve.scale][0](line + height)


def in_unit(value: float, unit: str, *, sign: str = "") -> str:
    """A value in words: shares in percent, counts whole, everything else to three digits."""
    if unit == "share":
        return f"{100 * value:{sign}.1f} points"
    if unit == "neurons":
        return f"{value:{sign}.0f} neuron{'s' * (round(abs(value)) != 1)}"
    return f"{value:{sign}.3g} {unit}"


def _in_words(stretches: Sequence[Stretch], curve: SignalCurve) -> str:
    parts = []
    for number, one in enumerate(stretches):
        last = number == len(stretches) - 1
        until = f"until step {one.end:,}" if not last else "to the end" if number else "over the whole run"
        low, high = (
            in_unit(end, curve.unit, sign="+").split()[0] for end in (one.change.low, one.change.high)
        )
        change = in_unit(one.change.estimate, curve.unit, sign="+")
        parts.append(f"{VERBS[one.sign]} {until} ({change}, {low} to {high})")
    return f"{curve.name} " + ", then ".join(parts)
