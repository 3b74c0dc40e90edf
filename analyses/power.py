"""What would resolve a curve that is not resolvable: more problems, checkpoints or training seeds.

The best guess at the curve is taken for the truth. Series that follow it are simulated under a larger design,
and the same test that failed is applied to each: power is how often it finds a break. Its critical value is
simulated too, from the straight line that is nearest to the guess. Power is promised for the guess, which
chance may have made larger than the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from babelscope.analyses.curve_posterior import BrokenLinePosterior
from babelscope.analyses.segmented import SegmentedLogit, odds_of_more

POWER = 0.8
DRAWS = 199  # power is known to ± 6 points at 0.8, and factors are coarser
PLACES = 12
PROBLEMS = (1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CHECKPOINTS = (1.5, 2, 3, 4, 6, 8)
SEEDS = (2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True)
class Design:
    """How a series was scored.

    Attributes
    ----------
    x
        Positions of the checkpoints.
    total
        Problems asked.
    correlation
        Between checkpoints, over problems.
    noise
        Variance of the training noise of one run, in the logit.
    runs
        Training seeds.
    """

    x: Float[np.ndarray, " n"]
    total: Int[np.ndarray, " n"]
    correlation: Float[np.ndarray, "n n"]
    noise: float
    runs: int
    max_breaks: int

    def with_problems(self, factor: float) -> Design:
        """The same checkpoints, with more problems."""
        return replace(self, total=np.round(factor * self.total).astype(int))

    def with_checkpoints(self, factor: float) -> Design:
        """The same span with more checkpoints, evenly spread; problems agree as they do on average."""
        n = round(factor * len(self.x))
        apart = self.correlation[~np.eye(len(self.x), dtype=bool)].mean()
        return replace(
            self,
            x=np.linspace(self.x[0], self.x[-1], n),
            total=np.full(n, self.total.min()),
            correlation=np.eye(n) + apart * (1 - np.eye(n)),
        )

    def with_seeds(self, runs: float) -> Design:
        """More training runs on the same problems: their training noise averages out, the problems do not."""
        return replace(self, runs=int(runs))

    def power(
        self, x: Float[np.ndarray, " m"], eta: Float[np.ndarray, " m"], *, level: float, seed: int
    ) -> float:
        """How often a break is found in series that follow a curve, given by its logits at positions."""
        rng, eta = np.random.default_rng(seed), np.interp(self.x, x, eta)
        noise = self.noise / self.runs
        model = SegmentedLogit(
            self.x, self.total, correlation=self.correlation, noise=noise, max_breaks=self.max_breaks
        )
        lines = BrokenLinePosterior(
            self.x,
            model.by_problems(eta),
            noise=noise,
            sensitivity=model.sensitivity(eta),
            places=PLACES,
            max_breaks=model.max_breaks,
            runs=self.runs,
        )
        line = model.fit(self.total * expit(eta), 0)
        null, truth = (
            odds_of_more(lines, model.empirical(model.simulate(curve, DRAWS, rng)), 0)
            for curve in (line.eta, eta)
        )
        return float((truth > np.quantile(null, level)).mean())


@dataclass(frozen=True)
class Needed:
    """What would do, each alone; None where nothing up to `limits` would."""

    problems: int | None
    checkpoints: int | None
    seeds: int | None
    limits: dict[str, int]

    def in_words(self) -> str:
        """A clause: what would resolve the curve, and what would not."""
        named = {"problems": self.problems, "checkpoints": self.checkpoints, "training seeds": self.seeds}
        limits = dict(zip(named, self.limits.values(), strict=True))
        would = [f"{number:,} {name}" for name, number in named.items() if number is not None]
        not_so = [f"{name} (up to {limits[name]:,})" for name, number in named.items() if number is None]
        clauses = [f"about {' or '.join(would)} would resolve it in 80 % of such runs"] if would else []
        if not_so:
            alone = "alone would not" if would else "alone would not resolve it"
            clauses.append(f"more {' or more '.join(not_so)} {alone}")
        return ", ".join(clauses)


def needed(
    design: Design, x: Float[np.ndarray, " m"], eta: Float[np.ndarray, " m"], *, level: float, seed: int
) -> Needed:
    """The least of each that finds a break in a curve with power 0.8."""

    def least(factors: Sequence[float], larger: Callable[[float], Design]) -> Design | None:
        first, last = 0, len(factors)
        while first < last:
            middle = (first + last) // 2
            enough = larger(factors[middle]).power(x, eta, level=level, seed=seed) >= POWER
            first, last = (first, middle) if enough else (middle + 1, last)
        return larger(factors[first]) if first < len(factors) else None

    seeds = [design.runs * factor for factor in SEEDS]
    problems = least(PROBLEMS, design.with_problems)
    checkpoints = least(CHECKPOINTS, design.with_checkpoints)
    runs = least(seeds, design.with_seeds)
    return Needed(
        problems=_rounded(problems.total.min()) if problems else None,
        checkpoints=len(checkpoints.x) if checkpoints else None,
        seeds=runs.runs if runs else None,
        limits={
            "problems": _rounded(PROBLEMS[-1] * design.total.min()),
            "checkpoints": round(CHECKPOINTS[-1] * len(design.x)),
            "seeds": seeds[-1],
        },
    )


def _rounded(number: float) -> int:
    """Two significant digits: simulation knows no more."""
    return int(float(f"{number:.2g}"))
