"""The document of a detector: what `babelscope stages --json` prints and an analysis keeps."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from babelscope.core.stats import wilson_interval

if TYPE_CHECKING:
    from babelscope.analyses.stages import StageDetector


def stage_document(found: StageDetector) -> dict[str, Any]:
    """The whole answer, ready for JSON: null where step 0 is not fitted, and where no checkpoint is best."""
    curve, undefined = found.curve_, np.isnan(found.fitted_)
    rate, worth = curve.solved / curve.total, curve.worth
    score = np.column_stack([rate, wilson_interval(rate * worth, worth, level=found.level)])
    fitted = np.column_stack([found.fitted_, found.band_]).astype(object)
    fitted[undefined] = None
    best = None
    if found.best_step_ is not None and found.best_interval_ is not None:
        low, high = found.best_interval_
        best = {"step": found.best_step_, "low": low, "high": high}
    return {
        "verdict": found.verdict_,
        "shape": found.shape_,
        "resolved": found.resolved_,
        "needed": asdict(found.needed_) if found.needed_ else None,
        "rises_and_falls": found.rises_and_falls_,
        "stages": [asdict(stage) for stage in found.stages_],
        "breaks": [asdict(one) for one in found.breaks_],
        "p_values": found.p_values_,
        "posterior": found.posterior_,
        "best": best,
        "rise": asdict(found.rise_),
        "fall": asdict(found.fall_),
        "training_noise": found.training_noise_,
        "training_noise_from": "runs" if curve.runs else "neighbouring checkpoints",
        "problem_sharing": "independent" if curve.outcomes is None else "measured",
        "settings": {name: getattr(found, name) for name in ("max_breaks", "level", "draws", "seed")},
        "x": curve.unit,
        "runs": max(len(curve.runs), 1),
        "steps": curve.steps.tolist(),
        "solved": curve.solved.tolist(),
        "total": curve.total.tolist(),
        **dict(zip(("score", "score_low", "score_high"), score.T.tolist(), strict=True)),
        **dict(zip(("fitted", "fitted_low", "fitted_high"), fitted.T.tolist(), strict=True)),
    }
