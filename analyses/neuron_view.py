"""One neuron on a page: what it fires on, what it writes, its life.

Everything is HTML with its styles inside it and no script, so that Jupyter, JupyterLab, VS Code and a file
show the same. It takes the page's own text colour and tints what is behind it: it can be read on light and on
dark. Tokens and names come from other people's files, so every one is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from babelscope.analyses.figures.lens_table import CODE, visible
from babelscope.analyses.figures.style import FONT, OTHERS, faded
from babelscope.analyses.neuron_curve import Life, life_svg
from babelscope.core.files import write_text
from babelscope.core.languages import shown

POSITIVE, NEGATIVE = OTHERS[0], OTHERS[1]  # of an output; blue and vermilion are the languages'
DEEPEST = 0.65  # opacity of the largest: text on it stays readable, black on white or white on black
SIGNS = "␣⏎→␍"  # what `visible` writes for white space
QUIET = "opacity:.62"
PROSE = f"font-family:{html.escape(FONT)};font-size:13px"
MONOSPACED = f"font-family:{html.escape(CODE)};font-size:12px"
HEAD = "margin:14px 0 4px;font-weight:600"
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><style>:root {{ color-scheme: light dark }}</style></head>
<body style="margin:24px auto;max-width:920px;padding:0 16px">
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Span:
    """A stretch of text around a position at which a neuron is large.

    Attributes
    ----------
    tokens
        Their texts.
    activations
        The neuron's output at each.
    peak
        Which of them the position is.
    starts, ends
        Whether the window that was read starts, or ends, with the span.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int
    starts: bool
    ends: bool

    @property
    def value(self) -> float:
        """The output at the position."""
        return self.activations[self.peak]

    def __str__(self) -> str:
        texts = [visible(token) for token in self.tokens]
        texts[self.peak] = f"[{texts[self.peak]}]"
        return f"{self.value:+.2f}  {'' if self.starts else '…'}{' '.join(texts)}{'' if self.ends else '…'}"


@dataclass(frozen=True, repr=False)
class Effect:
    """The tokens that are raised and lowered most, most first; by how much, in standard deviations.

    Attributes
    ----------
    raised, lowered
        Each token's text and its z.
    chance
        The largest z that 95 % of random directions stay below.
    """

    raised: tuple[tuple[str, float], ...]
    lowered: tuple[tuple[str, float], ...]
    chance: float

    @property
    def table(self) -> pd.DataFrame:
        """Columns raised, raised_by, lowered, lowered_by."""
        raised, raised_by = zip(*self.raised, strict=True)
        lowered, lowered_by = zip(*self.lowered, strict=True)
        return pd.DataFrame(
            {
                "raised": raised,
                "raised_by": raised_by,
                "lowered": lowered,
                "lowered_by": lowered_by,
            }
        )

    def __repr__(self) -> str:
        def listed(tokens: Sequence[tuple[str, float]]) -> str:
            return "  ".join(f"{visible(token)} {z:+.1f}" for token, z in tokens)

        return (
            f"raises {listed(self.raised)}\nlowers {listed(self.lowered)}\n"
            f"(standard deviations over the vocabulary; random directions reach {self.chance:.1f})"
        )

    def _repr_html_(self) -> str:
        return (
            f'<div style="{PROSE}">'
            '<div style="display:flex;flex-wrap:wrap;gap:4px 48px">'
            + _column("raises", self.raised, self.chance)
            + _column("lowers", self.lowered, self.chance)
            + f'</div><div style="{QUIET};margin-top:4px">Per unit of positive output, in standard deviations'
            f" over the vocabulary. Of random directions 95 % reach no more than {self.chance:.1f}: tokens"
            " within that are pale. Direct effect only: later layers may undo it.</div></div>"
        )


@dataclass(frozen=True, repr=False)
class NeuronView:
    """What one neuron is, at one checkpoint; shows itself in Jupyter.

    Attributes
    ----------
    layer, neuron
        Counted from 1, and from 0.
    step
        Of the checkpoint.
    spans
        By language, what it is largest on, largest first.
    effect
        What it writes.
    life
        How often it fires, and whose it is, over steps.
    """

    layer: int
    neuron: int
    step: int
    spans: Mapping[str, Sequence[Span]]
    effect: Effect
    life: Life

    @property
    def title(self) -> str:
        return f"Neuron {self.neuron} of layer {self.layer}, step {self.step:,}"

    def __repr__(self) -> str:
        lines = [self.title, *self.life.sentences]
        for language, spans in self.spans.items():
            lines += [f"largest in {shown(language)}:", *(f"  {span}" for span in spans)]
        return "\n".join([*lines, repr(self.effect)])

    def _repr_html_(self) -> str:
        return (
            f'<div style="{PROSE};line-height:1.5;max-width:900px">'
            f'<div style="font-size:16px;font-weight:600">{html.escape(self.title)}</div>'
            f"<div>{html.escape(' '.join(self.life.sentences))}</div>"
            f'<div style="{HEAD}">What it fires on</div>{"".join(self._fires_on())}'
            f'<div style="{HEAD}">What it writes</div>{self.effect._repr_html_()}'
            f'<div style="{HEAD}">Its life: on how many tokens it fires</div>'
            f"{life_svg(self.life, at=self.step)}</div>"
        )

    def to_html(self, path: str | Path) -> Path:
        """Write it as a page of its own, which needs nothing else; the file appears whole or not at all."""
        path = Path(path)
        write_text(path, PAGE.format(title=html.escape(self.title), body=self._repr_html_()))
        return path

    def _fires_on(self) -> Iterator[str]:
        sizes = [abs(a) for spans in self.spans.values() for span in spans for a in span.activations]
        most = max(sizes, default=0.0) or 1.0
        for language, spans in self.spans.items():
            colour = self.life.colours[language]
            yield (
                f'<div style="border-left:3px solid {colour};padding-left:10px;margin:6px 0">'
                f'<div style="color:{colour};font-weight:600">{html.escape(shown(language))}</div>'
            )
            yield from (_span(span, most) for span in spans)
            yield "</div>"
        yield (
            f'<div style="{QUIET}">Held-out text around its largest outputs, each from a window of its own;'
            f" {_key(POSITIVE, 'positive')} and {_key(NEGATIVE, 'negative')} output, deepest at"
            f" {most:.3g}; point at a token for its own. These are extremes, not its typical use.</div>"
        )


def _span(span: Span, most: float) -> str:
    """A line of tokens, each tinted by the neuron's output."""
    tokens = [
        _token(token, activation, most, marked=place == span.peak)
        for place, (token, activation) in enumerate(zip(span.tokens, span.activations, strict=True))
    ]
    more = f'<span style="{QUIET}">…</span>'
    before, after = ("" if edge else more for edge in (span.starts, span.ends))
    return (
        '<div style="display:flex;gap:12px;align-items:baseline">'
        f'<span style="{QUIET};min-width:52px;text-align:right">{_number(span.value)}</span>'
        f'<span style="{MONOSPACED};line-height:1.8;overflow-wrap:anywhere">'
        f"{before}{'<wbr>'.join(tokens)}{after}</span></div>"
    )


def _token(token: str, activation: float, most: float, *, marked: bool) -> str:
    colour = faded(POSITIVE if activation >= 0 else NEGATIVE, round(DEEPEST * abs(activation) / most, 3))
    line = ";outline:1.5px solid currentColor" if marked else ""
    style = f"background:{colour};padding:1px 0;margin-right:2px;border-radius:2px{line}"
    return f'<span title="{_number(activation)}" style="{style}">{_seen(token)}</span>'


def _number(value: float) -> str:
    """With its sign, a real minus, and three digits."""
    return f"{value:+#.3g}".rstrip(".").replace("-", "−")


def _seen(token: str) -> str:
    """Escaped, with its white space visible but quiet."""
    return "".join(
        f'<span style="opacity:.4">{sign}</span>' if sign in SIGNS else html.escape(sign)
        for sign in visible(token)
    )


def _key(colour: str, text: str) -> str:
    return f'<span style="background:{faded(colour, DEEPEST)};padding:0 4px;border-radius:2px">{text}</span>'


def _column(title: str, tokens: Sequence[tuple[str, float]], chance: float) -> str:
    rows = []
    for token, z in tokens:
        pale = "" if abs(z) > chance else ";opacity:.5"
        bar = faded(POSITIVE if z >= 0 else NEGATIVE, DEEPEST)
        rows.append(
            f'<div style="display:flex;gap:8px;align-items:center{pale}">'
            f'<span style="{MONOSPACED};min-width:130px">{_seen(token)}</span>'
            f'<span style="background:{bar};height:9px;width:{min(abs(z), 20) * 8:.0f}px"></span>'
            f"<span>{_number(z)}</span></div>"
        )
    return f'<div><div style="{QUIET}">{title}</div>{"".join(rows)}</div>'
