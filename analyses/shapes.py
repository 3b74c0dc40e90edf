"""Names for score curves: from rises, falls and flat stretches to a shape, its stages and a sentence.

"The Rise and Down of Babel Tower" (arXiv 2412.07298, section 3) names three stages by eye, on the score in
the new language:

    translation     fast rise to the peak
    transition      decline
    stabilization   flat, or a slow gain that stays below the peak

Here a stretch rises or falls only if the interval of its change leaves out zero. A flat top between rise and
fall is a broad peak and belongs to the rise; a fall that goes on at less than a third of its pace has
levelled off and is as good as flat, since enough checkpoints resolve any slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
VERBS = {"+": "rises", "-": "falls", "0": "does not resolvably change", "~": "levels off"}
SLOW = 1 / 3  # of the pace of the fall before


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

    @property
    def pace(self) -> float:
        """Change per tenfold of steps."""
        return self.change.estimate / np.log10(self.end / self.start)


def levels_off(before: Stretch, after: Stretch) -> bool:
    """Whether a fall goes on much more slowly."""
    return before.sign == after.sign == "-" and after.pace > SLOW * before.pace


def rises_then_falls(stretches: Sequence[Stretch]) -> bool:
    """Whether some stretch falls after one that rises."""
    return "-" in "".join(stretch.sign for stretch in stretches).partition("+")[2]


@dataclass(frozen=True)
class Stage:
    """A named stretch of the run."""

    name: str
    start_step: int
    end_step: int


def name_shape(stretches: Sequence[Stretch], *, lead: Contrast) -> tuple[str, list[Stage]]:
    """Shape and stages of stretches whose neighbours differ in sign, or level off.

    `lead` is the end minus the best earlier turning point (or start): after a last rise it tells a curve that
    is best at the end from stabilization, which stays below the peak.
    """
    signs = _signs(stretches).replace("~", "0")
    # A flat start before a rise says only that learning came late, unless that is all there is.
    first = int(signs.startswith("0+"))
    trend = signs[first:].replace("+0-", "+-")
    if trend == "+-+" and lead.high < 0:
        shape = BABEL
    elif len(trend) > 1 and trend[-1] == "+" and lead.low > 0:
        shape = BEST_AT_THE_END
    else:
        shape = SHAPES.get(trend, "-".join(NOUNS[sign] for sign in trend))
    names = [STAGES[sign] for sign in signs]
    if shape in (BABEL, SHAPES["+-"]):
        top = first + (2 if signs[first:].startswith("+0-") else 1)
        named = ["translation"] * (top - first) + ["transition", "stabilization"]
        names[first:] = named[: len(signs) - first]
    if signs == "0+":
        shape = LATE_RISE
    stages: list[Stage] = []
    for name, stretch in zip(names, stretches, strict=True):
        start = stages.pop().start_step if stages and stages[-1].name == name else stretch.start
        stages.append(Stage(name, start, stretch.end))
    return shape, stages


def _signs(stretches: Sequence[Stretch]) -> str:
    """A sign per stretch, "~" where a fall levels off."""
    neighbours = zip([None, *stretches], stretches, strict=False)
    return "".join(
        "~" if before and levels_off(before, after) else after.sign for before, after in neighbours
    )


def in_words(stretches: Sequence[Stretch], *, unit: str = "step") -> str:
    """The stretches as a clause: "the score rises until step 300 (+9.0 points, +7.1 to +11.2), then …"."""
    *first, last = [
        f"{VERBS[sign]} {{}} ({_points(stretch.change)})"
        for sign, stretch in zip(_signs(stretches), stretches, strict=True)
    ]
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
