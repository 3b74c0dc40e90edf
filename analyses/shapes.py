"""Names for score curves: from rises, falls and flat stretches to a shape, its stages and a sentence.

"The Rise and Down of Babel Tower" (arXiv 2412.07298, section 3) names three stages by eye, on the score in
the new language:

    translation     fast rise to the peak
    transition      decline
    stabilization   flat, or a slow gain that stays below the peak

Here a stretch rises or falls only if the interval of its change leaves out zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from babelscope.core.stats import Contrast

BABEL = "translation-transition-stabilization"
UNRESOLVED, FLAT = "not resolvable", "flat"
SHAPES = {
    "0": FLAT,
    "+": "only rising",
    "-": "only falling",
    "+0": "rise-plateau",
    "-0": "fall-plateau",
    "0-": "plateau-fall",
    "+-": "rise-fall",
    "-+": "fall-rise",
    "+-0": BABEL,
    "+-+-": "two peaks",
}
BEST_AT_THE_END = "best at the end"
LATE_RISE = "late rise"
NOUNS = {"+": "rise", "-": "fall", "0": "flat"}
STAGES = {"+": "rising", "-": "falling", "0": "flat"}
VERBS = {"+": "rises", "-": "falls", "0": "does not resolvably change"}


@dataclass(frozen=True)
class Stretch:
    """A part of the run with one trend: steps `start` to `end`, over which the score changes by `change`.

    `least` is the smallest change there can be, one problem: where next to nothing is ever solved, a fitted
    slope of a tenth of that would be resolved, and mean nothing.
    """

    start: int
    end: int
    change: Contrast
    least: float = 0.0

    @property
    def sign(self) -> str:
        """ "+" or "-" where the change is resolved, "0" where it is not."""
        if not self.change.resolved or abs(self.change.estimate) < self.least:
            return "0"
        return "+" if self.change.estimate > 0 else "-"


@dataclass(frozen=True)
class Stage:
    """A named stretch of the run."""

    name: str
    start_step: int
    end_step: int


def name_shape(stretches: Sequence[Stretch], *, lead: Contrast) -> tuple[str, list[Stage]]:
    """Shape and stages of stretches whose neighbours differ in sign.

    `lead` is the end minus the best earlier turning point (or start): after a last rise it tells a curve that
    is best at the end from stabilization, which stays below the peak.
    """
    pattern = "".join(stretch.sign for stretch in stretches)
    # A flat start before a rise says only that learning came late, unless that is all there is.
    trend = pattern.removeprefix("0") if pattern.startswith("0+") else pattern
    if trend == "+-+" and lead.high < 0:
        shape = BABEL
    elif len(trend) > 1 and trend[-1] == "+" and lead.low > 0:
        shape = BEST_AT_THE_END
    else:
        shape = SHAPES.get(trend, "-".join(NOUNS[sign] for sign in trend))
    named = iter(("translation", "transition", "stabilization") if shape in (BABEL, SHAPES["+-"]) else ())
    if pattern == "0+":
        shape = LATE_RISE
    first = len(pattern) - len(trend)
    return shape, [
        Stage(
            next(named, STAGES[stretch.sign]) if number >= first else STAGES[stretch.sign],
            stretch.start,
            stretch.end,
        )
        for number, stretch in enumerate(stretches)
    ]


def in_words(stretches: Sequence[Stretch], *, unit: str = "step") -> str:
    """The stretches as a clause: "the score rises until step 300 (+9.0 points, +7.1 to +11.2), then …"."""
    *first, last = [f"{VERBS[stretch.sign]} {{}} ({_points(stretch.change)})" for stretch in stretches]
    parts = [
        part.format(f"until {_place(stretch.end, unit)}")
        for part, stretch in zip(first, stretches, strict=False)
    ]
    return "the score " + ", then ".join(
        [*parts, last.format("to the end" if first else "over the whole run")]
    )


def _place(step: int, unit: str) -> str:
    return f"step {step:,}" if unit == "step" else f"{step:,} {unit}"


def _points(change: Contrast) -> str:
    return f"{100 * change.estimate:+.1f} points, {100 * change.low:+.1f} to {100 * change.high:+.1f}"
