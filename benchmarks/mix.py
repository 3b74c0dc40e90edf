"""Carrying intervals through a mix's limits: all bootstrap draws at once against one after another."""

from __future__ import annotations

import numpy as np

from babelscope.analyses.nearest_mix import Bounds, Limits
from benchmarks.row import Row, Work

LANGUAGES, DRAWS = 10, 999
TOKENS = 10**9


def _solves() -> tuple[Work, Work]:
    """A budget, four epochs, a floor and a ceiling; every solve is a nearest mix within them."""
    available = {f"language {k}": (1 + k) * TOKENS for k in range(LANGUAGES)}
    limits = Limits(budget=100 * TOKENS, floors={"language 0": 0.02}, ceilings={"language 9": 0.1})
    bounds = Bounds.of(limits, available)
    wanted = np.random.default_rng(0).dirichlet(np.ones(LANGUAGES), size=DRAWS)
    return lambda: bounds.nearest(wanted), lambda: bounds.nearest(wanted[0])


ROWS = {
    "mix: bootstrap of 999 10-language solves / 999 plain solves": Row(
        _solves, 0.2, rounds=21, against_times=DRAWS
    ),
}
