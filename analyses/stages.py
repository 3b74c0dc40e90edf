"""Stages of a series: where its score rises, falls and is flat, and whether the data can tell.

The score is fitted against log10(step) by continuous lines in the logit with 0 … 3 breaks (`segmented.py`).
The number of breaks is the first that is not rejected against one more, each test calibrated by simulation;
it is not read off BIC, which at 12–20 checkpoints finds breaks in up to one flat curve in eight. The paper
names three stages by eye ("The Rise and Down of Babel Tower", arXiv 2412.07298, section 3):

    translation     fast rise to the peak
    transition      decline
    stabilization   flat, or a slow gain that stays below the peak

Here a stretch between breaks rises or falls only if the interval of its change leaves out zero. Where the
data cannot tell, the verdict is "not resolvable" with the number of problems that would.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit

from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.segmented import Fit, SegmentedLogit, shrunk_correlation, training_noise
from babelscope.core.errors import InputError
from babelscope.core.stats import LEVEL, Contrast, percentile_interval, wilson_interval

# What must not be missed: the one published curve rises by 4 points and falls by 7.
BUMP = 0.05
POWER = 0.8  # how often a bump must be found before its absence means anything
MOST_PROBLEMS = 64  # times as many as there are; beyond, problems are not what is lacking

SHAPES = {
    "0": "flat",
    "+": "only rising",
    "-": "only falling",
    "+0": "rise-plateau",
    "-0": "fall-plateau",
    "+-": "rise-fall",
    "-+": "fall-rise",
    "+-0": "translation-transition-stabilization",
    "+-+-": "two peaks",
}
WORDS = {"+": "rise", "-": "fall", "0": "flat"}


@dataclass(frozen=True)
class Break:
    """A step at which the trend changes, with its interval."""

    step: int
    low: int
    high: int


@dataclass(frozen=True)
class Stage:
    """A stretch of the run, from and to the steps named."""

    name: str
    start_step: int
    end_step: int
