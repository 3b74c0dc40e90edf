"""What all the simulated series behind a verdict cost, against fitting each of them by itself."""

from __future__ import annotations

import numpy as np

from babelscope.analyses.segmented import SegmentedLogit, shrunk_correlation, training_noise
from babelscope.analyses.stages import StageDetector
from benchmarks.row import Row, Work
from benchmarks.stage_truths import DESIGNS, draw_scores, draw_truth

DRAWS = 999


def _prepare() -> tuple[Work, Work]:
    rng = np.random.default_rng(0)
    curve = draw_scores(draw_truth(DESIGNS["rise-fall-plateau"], 40, rng), 300, "shared", rng)
    assert curve.outcomes is not None
    x, shared = np.log10(curve.steps), shrunk_correlation(curve.outcomes)
    noise, _ = training_noise(x, curve.solved, curve.total, shared)

    model = SegmentedLogit(x, curve.total, correlation=shared, noise=noise, max_breaks=3)

    def plain() -> None:
        for breaks in range(model.max_breaks + 1):
            model.fit(curve.solved, breaks)

    return lambda: StageDetector(draws=DRAWS).fit(curve), plain


ROWS = {f"stages: bootstrap of {DRAWS} / {DRAWS} plain fits": Row(_prepare, aim=0.2, against_times=DRAWS)}
