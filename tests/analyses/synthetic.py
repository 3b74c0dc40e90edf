"""A made-up series with the shape of the small Babel's, for figures and the report.

Only the measures' results are invented; everything concluded from them is concluded by the real code.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xarray as xr

from babelscope.analyses.analysis import Analysis, analyse
from babelscope.analyses.comparison import ArmComparison
from babelscope.checkpoints.findings import Finding

STEPS = np.array([0, 25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 400, 500, 600, 700, 800])
PIVOT_ONLY = np.array([0, 0, 0, 0, 2, 10, 20, 24, 27, 28, 28, 24, 18, 13, 9, 6]) / 100
LAYERS, DRAWS = 6, 20


class Measured(dict):
    """Results by measure, as `sweep` gives them."""

    def __init__(self, datasets, null, *, pivot, target, findings=(), tokens=None):
        super().__init__(datasets)
        self._null = null
        self.findings = tuple(findings)
        self.owed = ()
        history = tuple(
            {"step": step, "loss": 1.2, "learning_rate": 1e-4 * min(1, step / 50) * (1 - 0.9 * step / 800)}
            for step in range(5, 801, 5)
        )
        self.series = SimpleNamespace(
            directory=Path("php-run"),
            pivot=pivot,
            target=target,
            history=history,
            run={"recipe": {}},
            available_tokens=tokens if tokens is not None else {pivot: 2_000_000, target: 6_000_000},
            continues_from_pivot=True,
            warmup_steps=50,
            steps=STEPS.tolist(),
            checkpoints=(),
        )

    def null(self, measure):
        return self._null


def problem_scores(rng, *, pivot, target, peak=1.0):
    """Which problem is solved when: a problem keeps its own difficulty at every step."""
    late = np.interp(STEPS, [0, 75, 200, 300], [0, 0, 0.9, 1])
    recall = np.interp(STEPS, [0, 25, 75, 125], [1, 0.75, 0.88, 0.95])
    asked = [
        (target, "pivot only", 160, PIVOT_ONLY * peak),
        (target, "both", 80, late),
        (target, "target only", 80, 0.9 * late),
        (pivot, "pivot only", 160, recall),
        (pivot, "both", 80, recall),
    ]
    solved, languages, groups, ids = [], [], [], []
    for language, group, number, share in asked:
        difficulty = (rng.random((number, 1)) + 0.25 * rng.random((number, len(STEPS)))) / 1.25
        solved.append(difficulty < share)
        languages += [language] * number
        groups += [group] * number
        ids += [f"{group} {i}" for i in range(number)]  # asked in both languages: one problem
    solved = np.concatenate(solved)
    return xr.Dataset(
        {
            "solved": (("step", "problem", "sample"), solved.T[:, :, None]),
            "ran": (("step", "problem", "sample"), np.ones_like(solved.T[:, :, None])),
        },
        coords={
            "step": STEPS,
            "id": ("problem", ids),
            "language": ("problem", languages),
            "group": ("problem", groups),
        },
    )


def language_loss(rng, *, pivot, target):
    """Documents that are hard or easy at every step alike."""
    x = np.log10(np.maximum(STEPS, 10))
    curves = {
        pivot: np.interp(STEPS, [0, 25, 100, 800], [0.62, 0.9, 0.72, 0.66]),
        target: 0.75 + 2.4 * np.exp(-2.6 * (x - 1)) + 1.5 * (STEPS == 0),
    }
    nll, tokens, languages = [], [], []
    for language, curve in curves.items():
        length = rng.integers(200, 900, 40)
        hardness = 1 + 0.08 * rng.standard_normal((40, 1)) + 0.01 * rng.standard_normal((40, len(STEPS)))
        nll.append(curve * hardness * length[:, None])
        tokens.append(length)
        languages += [language] * 40
    tokens = np.tile(np.concatenate(tokens), (len(STEPS), 1))
    return xr.Dataset(
        {
            "nll": (("step", "document"), np.concatenate(nll).T),
            "tokens": (("step", "document"), tokens),
            "bytes": (("step", "document"), 3 * tokens),
        },
        coords={"step": STEPS, "language": ("document", languages)},
    )


def transferring_neurons(rng, *, pivot, target, neurons=500):
    """Most neurons fire alike in both languages; a few, ever fewer, mostly in the target."""
    n_layers, blocks, tokens = 4, 8, 1000
    own = np.clip(rng.normal(0.12, 0.06, (n_layers, neurons)), 0.001, 0.4)
    rate = np.broadcast_to(own, (len(STEPS), 2, blocks, n_layers, neurons)).copy()
    for s in range(len(STEPS)):
        pivot_own, target_own = 7 + s // 3, 13 - s // 2
        rate[s, 0, :, 0, :pivot_own], rate[s, 1, :, 0, :pivot_own] = 0.4, 0.01
        rate[s, 1, :, 1, :target_own], rate[s, 0, :, 1, :target_own] = 0.4, 0.01
    return xr.Dataset(
        {
            "total": (("step", "language", "block", "layer", "neuron"), rng.binomial(tokens, rate)),
            "tokens": (("step", "language", "block"), np.full((len(STEPS), 2, blocks), tokens)),
        },
        coords={"step": STEPS, "language": [pivot, target]},
    )


def working_language(rng, *, pivot, target, strength=1.0, steps=STEPS):
    """Middle layers lean to the pivot from step 100 on, by `strength`; the last one writes the target."""
    concepts, per_concept = 8, 10
    n = concepts * per_concept
    late = np.interp(np.log10(np.maximum(steps, 1)), [0, 1.7, 2.2, 2.9], [0, 0, 1, 0.75])[:, None, None]
    depth = np.array([0.0, 0.15, 0.5, 0.9, 1.0, 0.0])[:, None]
    writes = np.array([0.0, 0.0, 0.0, 0.0, 0.05, 0.9])[:, None]
    concept = rng.normal(0, 0.12, (concepts, 1)).repeat(per_concept, 0).ravel()
    p_pivot = np.clip(
        strength * (0.55 * depth * late + concept * depth * late), 0, 1
    )  # (step, layer, prompt)
    p_target = np.clip(writes * np.minimum(1, 1.4 * late), 0, 1) * np.ones(n)
    draw = rng.random((len(steps), LAYERS, n))
    top = np.where(draw < p_pivot, 0, np.where(draw > 1 - p_target, 1, -1))
    noise = rng.normal(0, 0.5, (len(steps), LAYERS, n))
    share = 1 / (1 + np.exp(-(4.5 * strength * depth * late - 7 * writes * late + noise)))
    mass = 0.02 + 0.5 * p_pivot
    null = rng.normal(0, 0.7, (len(steps), LAYERS, n, DRAWS))
    null_share = 1 / (1 + np.exp(-null))
    cell, by_language = ("step", "layer", "prompt"), ("step", "layer", "prompt", "language")
    by_draw = ("step", "layer", "prompt", "draw", "language")
    elsewhere = 1 / (1 + np.exp(-0.6 * noise[..., ::-1]))

    def both(values):
        return np.stack([values, 1 - values], axis=-1)

    return xr.Dataset(
        {
            "top": (cell, top),
            "share": (by_language, both(share)),
            "mass": (by_language, np.stack([mass, 0.3 * p_target], axis=-1)),
            "elsewhere_top": (cell, np.where(rng.random(top.shape) < 0.02, 0, -1)),
            "elsewhere_share": (by_language, both(elsewhere)),
            "elsewhere_mass": (by_language, np.full((*top.shape, 2), 0.02)),
            "entropy": (cell, 4 - 3 * p_pivot - noise / 4),
            "elsewhere_entropy": (cell, 4 + noise[..., ::-1] / 4),
            "rank": (cell, 1 + rng.poisson(40 * (1 - p_target))),
            "elsewhere_rank": (cell, 1 + rng.poisson(60, top.shape)),
            "null_rank": (cell, 1 + rng.poisson(60, top.shape)),
            "null_top": (by_draw, rng.random((*top.shape, DRAWS, 2)) < 0.01),
            "null_share": (by_draw, both(null_share)),
            "null_mass": (by_draw, np.full((*top.shape, DRAWS, 2), 0.015)),
        },
        coords={
            "step": steps,
            "layer": np.arange(1, LAYERS + 1),
            "language": [pivot, target],
            "concept": ("prompt", np.repeat([f"concept {i}" for i in range(concepts)], per_concept)),
            "spoken": ("prompt", [target] * n),
        },
        attrs={"intermediate": list(range(1, LAYERS)), "lens": "logit"},
    )


def arms(rng) -> ArmComparison:
    """Three mixes, three seeds each: the recommended one keeps more of what only the pivot's text tells."""
    sizes = {"pivot only": 160, "both": 80, "target only": 80}
    groups = [f"php: {group}" for group, size in sizes.items() for _ in range(size)]
    solved = {"recommended": (0.42, 0.99, 0.62), "natural": (0.22, 1.0, 0.74), "uniform": (0.30, 0.99, 0.55)}
    outcomes = {}
    for arm, shares in solved.items():
        p = np.repeat(shares, list(sizes.values()))
        runs = np.clip(p + rng.normal(0, 0.025, (3, 1)), 0, 1)
        outcomes[arm] = rng.random((3, len(groups))) < runs
    comparison = ArmComparison(
        recommended="recommended", problem_set="share of all problems solved", minimum_gain=0.01
    )
    return comparison.fit(outcomes, seeds={arm: [1, 2, 3] for arm in outcomes}, groups=groups)


@cache
def measured(*, pivot="python", target="php", transfers=True) -> Measured:
    """Results of a series in which knowledge crosses over, or of one in which nothing does."""
    rng = np.random.default_rng(0)
    strength = 1.0 if transfers else 0.0
    names = {"pivot": pivot, "target": target}
    working = working_language(rng, **names, strength=strength)
    null = working_language(rng, **names, strength=0.0, steps=STEPS[:1]).isel(step=0, drop=True)
    return Measured(
        {
            "problem_scores": problem_scores(rng, **names, peak=strength),
            "language_loss": language_loss(rng, **names),
            "transferring_neurons": transferring_neurons(rng, **names),
            "working_language": working,
        },
        null,
        findings=[Finding(650, "unreadable", "checkpoint-650: model.safetensors is truncated")],
        **names,
    )


@cache
def babel(*, pivot="python", target="php", transfers=True) -> Analysis:
    """What is concluded of it, with the arms that were trained where knowledge crosses over."""
    analysis = analyse(measured(pivot=pivot, target=target, transfers=transfers))  # pyright: ignore[reportArgumentType]
    return analysis.with_comparison(arms(np.random.default_rng(1))) if transfers else analysis
