"""The life of one neuron: how often it fires in each language over steps, and whose neuron it is when.

Drawn as SVG by hand: a figure with a script would weigh megabytes in every output cell, and not every
notebook runs scripts.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int

from babelscope.analyses.figures.lens_table import visible
from babelscope.analyses.figures.step_axis import StepAxis
from babelscope.core.languages import shown

WIDTH, HEIGHT, STRIP = 640, 150, 14  # px: the whole, the curves' panel, a language's strip
LEFT, RIGHT, TOP, AXIS = 84, 40, 30, 34
LINE = "currentColor"


@dataclass(frozen=True)
class Life:
    """One neuron over steps.

    Attributes
    ----------
    steps
        Of the checkpoints.
    rate, low, high
        By language: the share of tokens on which it fires, and its interval.
    member
        By language, whether it is one of that language's neurons.
    born, died
        Steps, by language; left out where it was never born, or lives on.
    colours
        By language.
    """

    steps: Int[np.ndarray, " step"]
    rate: Mapping[str, Float[np.ndarray, " step"]]
    low: Mapping[str, Float[np.ndarray, " step"]]
    high: Mapping[str, Float[np.ndarray, " step"]]
    member: Mapping[str, Bool[np.ndarray, " step"]]
    born: Mapping[str, int]
    died: Mapping[str, int]
    colours: Mapping[str, str]

    @property
    def sentences(self) -> list[str]:
        """Whose neuron it was, from when to when."""
        return [self._sentence(language) for language in self.rate]

    def _sentence(self, language: str) -> str:
        name, present = shown(language), int(self.member[language].sum())
        if not present:
            return f"Never {name}'s."
        when = f"at {present} of {len(self.steps)} checkpoints"
        if language not in self.born:
            return f"{name}'s {when}, never at two in a row."
        first, died = self.born[language], self.died.get(language)
        since = "the first checkpoint" if first == self.steps[0] else f"step {first:,}"
        return f"{name}'s from {since} {f'to step {died:,}' if died is not None else 'on'}, {when}."


def life_svg(life: Life, *, at: int) -> str:
    """The curves with their intervals, strips where it is a language's, and a line at one step."""
    height = HEIGHT + len(life.rate) * STRIP + AXIS
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
        ' style="max-width:100%;height:auto;overflow:visible" font-size="11" fill="currentColor">'
        f"{''.join(_Drawing(life).parts(at))}</svg>"
    )


class _Drawing:
    def __init__(self, life: Life):
        self.life, self.axis = life, StepAxis(life.steps)
        drawn = np.concatenate([np.zeros(1), *life.rate.values(), *life.high.values()])
        self.top = _round_above(float(np.nanmax(drawn)))

    def parts(self, at: int) -> Iterator[str]:
        yield from self._frame()
        yield _line(self.x(at), TOP, self.x(at), self.floor, opacity=0.35)
        for number, language in enumerate(self.life.rate):
            yield from self._curve(language)
            yield from self._strip(language, HEIGHT + 4 + number * STRIP)
            yield from self._born_and_died(language, TOP - 6 - 12 * (number % 2))
        yield from self._steps()

    @property
    def floor(self) -> float:
        return HEIGHT + 4 + len(self.life.rate) * STRIP

    def x(self, step: float) -> float:
        left, right = self.axis.range
        return LEFT + (float(self.axis.at(step)) - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def y(self, rate: float) -> float:
        return HEIGHT - rate / self.top * (HEIGHT - TOP)

    def _frame(self) -> Iterator[str]:
        for share in (0, 0.5, 1):
            y = self.y(share * self.top)
            yield _line(LEFT, y, WIDTH - RIGHT, y, opacity=0.15)
            yield _text(LEFT - 6, y + 4, f"{100 * share * self.top:g} %", anchor="end")
        middle = (TOP + HEIGHT) / 2
        yield (
            f'<text x="14" y="{middle}" text-anchor="middle" opacity=".7"'
            f' transform="rotate(-90 14 {middle})">share of tokens</text>'
        )

    def _curve(self, language: str) -> Iterator[str]:
        life, colour = self.life, self.life.colours[language]
        rate, low, high = (of[language] for of in (life.rate, life.low, life.high))
        # From step 0 to the first trained one no line: no steps were taken in between.
        joined = [i for i, step in enumerate(life.steps) if step > 0]
        known = [i for i in joined if np.isfinite(low[i] + high[i])]
        edge = [(self.x(life.steps[i]), self.y(high[i])) for i in known]
        edge += [(self.x(life.steps[i]), self.y(low[i])) for i in reversed(known)]
        yield f'<polygon points="{_points(edge)}" fill="{colour}" opacity=".18"/>'
        line = [(self.x(life.steps[i]), self.y(rate[i])) for i in joined]
        yield f'<polyline points="{_points(line)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        for i, step in enumerate(life.steps):
            said = f"{shown(language)}, step {step:,}: {rate[i]:.3f} ({low[i]:.3f} to {high[i]:.3f})"
            yield (
                f'<circle cx="{self.x(step):.1f}" cy="{self.y(rate[i]):.1f}" r="2.6" fill="{colour}">'
                f"<title>{html.escape(said)}</title></circle>"
            )

    def _strip(self, language: str, y: float) -> Iterator[str]:
        colour, centres = self.life.colours[language], [self.x(step) for step in self.life.steps]
        between = [(a + b) / 2 for a, b in pairwise(centres)]
        ends = [centres[0] - 5, *between, centres[-1] + 5]
        yield _text(LEFT - 6, y + STRIP - 4, visible(f"{shown(language)}'s", 12), anchor="end", colour=colour)
        yield _line(LEFT, y + STRIP / 2, WIDTH - RIGHT, y + STRIP / 2, opacity=0.15)
        for is_member, (left, right) in zip(self.life.member[language], pairwise(ends), strict=True):
            if is_member:
                yield (
                    f'<rect x="{left:.1f}" y="{y + 3}" width="{right - left:.1f}" height="{STRIP - 6}"'
                    f' fill="{colour}"/>'
                )

    def _born_and_died(self, language: str, y: float) -> Iterator[str]:
        colour, life = self.life.colours[language], self.life
        for steps, word, anchor in ((life.born, "born", "end"), (life.died, "died", "start")):
            if language in steps and steps[language] != life.steps[0]:
                x = self.x(steps[language])
                yield _line(x, y - 8, x, self.floor, opacity=0.9, colour=colour, dash="2 3")
                aside = x + (4 if anchor == "start" else -4)
                yield _text(aside, y, f"{word} {steps[language]:,}", anchor=anchor, colour=colour)

    def _steps(self) -> Iterator[str]:
        places, labels = self.axis.ticks(most=9)
        left, right = self.axis.range
        for place, label in zip(places, labels, strict=True):
            x = LEFT + (place - left) / (right - left) * (WIDTH - LEFT - RIGHT)
            yield _line(x, self.floor, x, self.floor + 4, opacity=0.5)
            yield _text(x, self.floor + 16, label)
        yield _text((LEFT + WIDTH - RIGHT) / 2, self.floor + 30, "training step")


def _round_above(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 and 100 percent."""
    return next((top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if value <= top), 1.0)


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _line(
    x1: float, y1: float, x2: float, y2: float, *, opacity: float, colour: str = LINE, dash: str = "none"
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
        f' stroke-opacity="{opacity}" stroke-dasharray="{dash}"/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "middle", colour: str = LINE) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{html.escape(text)}</text>'
