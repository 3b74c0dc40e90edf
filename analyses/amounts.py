"""Numbers of tokens and shares as a reader takes them in."""

from __future__ import annotations

from collections.abc import Mapping

from babelscope.core.languages import shown


def amount(tokens: float) -> str:
    """A number of tokens with three significant digits: 15 T, 5 B, 671 k."""
    rounded = float(f"{tokens:.3g}")  # first, so that 999.9 M are 1 B
    for size, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if rounded >= size:
            return f"{rounded / size:g}{unit}"
    return f"{tokens:.0f}"


def listed(weights: Mapping[str, float]) -> str:
    """Shares by language: Python 68.8%, PHP 31.2%."""
    return ", ".join(f"{shown(name)} {weight:.1%}" for name, weight in weights.items())
