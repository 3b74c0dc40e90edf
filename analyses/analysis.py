"""From results to conclusions: one object that figures draw, `--json` prints and the mix is made from.

Signals that may show stages are curves of solved problems, each with a verdict of its own:

    score               all problems asked in the target
    pivot knowledge     those whose answer only the pivot's text tells: what is transferred
    identifier choice   the last layer prefers the target's identifier to the pivot's, where one is due

A signal that a series lacks is left out with the reason; nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from babelscope.analyses import tables
from babelscope.analyses.comparison import ArmComparison
from babelscope.analyses.mix import Recommendation, recommend
from babelscope.analyses.proportion import LossProportion, WorkingLanguageProportion
from babelscope.analyses.stages import ScoreCurve, StageDetector
from babelscope.analyses.sweep import Results
from babelscope.analyses.trend import LogLinear, disagreement
from babelscope.checkpoints.series import Finding
from babelscope.core.errors import InputError

PIVOT_KNOWLEDGE = "pivot only"  # the group of problems that only the pivot's text answers


@dataclass(frozen=True)
class Analysis:
    """What one series shows.

    Attributes
    ----------
    name, pivot, target
        Of the series.
    findings
        What was left out, and why.
    history
        step, loss, learning_rate and whatever else the trainer logged; empty where it logged nothing.
    scores, losses, neurons
        As `tables` makes them; `scores` is None without problems.
    working
        Working language with its nulls, or None.
    stages
        A fitted detector per signal.
    loss_proportion, language_proportion
        The pivot's share by both estimators, where they are defined.
    disagreement
        Their difference over steps, as the paper's authors tabulate it, or None.
    recommendation
        Algorithm 1, or its refusal in words.
    comparison
        Arms trained on different mixes, where they were.
    notes
        What could not be concluded, and why, in sentences.
    """

    name: str
    pivot: str
    target: str
    findings: tuple[Finding, ...]
    history: pd.DataFrame
    scores: pd.DataFrame | None
    losses: pd.DataFrame
    neurons: pd.DataFrame
    working: tables.PivotShare
    stages: Mapping[str, StageDetector]
    loss_proportion: LossProportion | None
    language_proportion: WorkingLanguageProportion
    disagreement: pd.DataFrame | None
    recommendation: Recommendation | None
    comparison: ArmComparison | None
    notes: tuple[str, ...]

    def with_comparison(self, comparison: ArmComparison) -> Analysis:
        """The same, with what the corrective runs showed."""
        return replace(self, comparison=comparison)
