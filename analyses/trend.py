"""P = a + b·log10(step): how the two estimates of the pivot's share fall, and how far they disagree.

The authors of "The Rise and Down of Babel Tower" (arXiv 2412.07298, discussion on OpenReview) fit one line to
each estimate for PHP and tabulate δ(step) between the two:

    by loss               y1 = 1.6166 − 0.3758·log10(step)
    by working language   y2 = 1.4973 − 0.3328·log10(step)
"""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float

from babelscope.analyses.proportion import LossProportion, WorkingLanguageProportion
from babelscope.core.errors import InputError
from babelscope.core.stats import percentile_interval


class LogLinear:
    """P = a + b·log10(step), by least squares; meant for the steps on which P falls.

    Parameters
    ----------
    between
        First and last step to fit; None takes α to β for the loss, and all trained checkpoints for the
        working language. Give both fits the same steps before comparing them.
    seed
        Of the residual bootstrap.

    Attributes
    ----------
    intercept_, slope_ : float
        a and b.
    intercept_interval_, slope_interval_ : (2,)
        From refits to the draws of P with the residuals of this fit resampled onto them: the one carries what
        checkpoints share (documents, prompts), the other what they do not (training noise, a bent curve).
    zero_step_, zero_interval_ : float, (2,)
        Where the line reaches 0; infinite where it does not fall. The line means nothing beyond.
    draws_ : (draws, 2)
        Refitted (a, b).
    """

    def __init__(self, *, between: tuple[float, float] | None = None, seed: int = 0):
        self.between = between
        self.seed = seed

    def fit(self, estimate: LossProportion | WorkingLanguageProportion) -> Self:
        """Fit the line; `InputError` with fewer than three checkpoints on it."""
        first, last = self.between or estimate.span_
        steps = estimate.steps_
        used = (steps > 0) & (steps >= first) & (steps <= last) & np.isfinite(estimate.proportion_)
        if used.sum() < 3:
            raise InputError(
                f"{used.sum()} checkpoints with a share between steps {first} and {last}; a line needs 3"
            )
        x = np.column_stack([np.ones(used.sum()), np.log10(steps[used])])
        solve = np.linalg.pinv(x)  # (2, used)
        a, b = line = solve @ estimate.proportion_[used]
        residuals = (estimate.proportion_[used] - x @ line) * np.sqrt(used.sum() / (used.sum() - 2))

        rng = np.random.default_rng(self.seed)
        draws = estimate.draws_[:, used]
        noisy = draws + rng.choice(residuals, draws.shape)
        self.draws_ = noisy[np.isfinite(noisy).all(1)] @ solve.T
        self.intercept_, self.slope_ = float(a), float(b)
        self.intercept_interval_, self.slope_interval_ = percentile_interval(self.draws_)
        self.zero_step_ = float(_zero(a, b))
        self.zero_interval_ = percentile_interval(_zero(*self.draws_.T))
        return self

    def predict(self, steps: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
        """P on the line."""
        return self.intercept_ + self.slope_ * np.log10(steps)


def disagreement(loss: LogLinear, language: LogLinear, steps: Float[np.ndarray, " steps"]) -> pd.DataFrame:
    """δ(step) = P by loss − P by working language, both on their lines, with an interval.

    Columns: step, by_loss, by_language, delta, low, high. The two sets of draws are taken as independent.
    """
    steps = np.asarray(steps, float)
    rows = min(len(loss.draws_), len(language.draws_))
    change = loss.draws_[:rows] - language.draws_[:rows]
    low, high = percentile_interval(change @ np.stack([np.ones_like(steps), np.log10(steps)])).T
    y1, y2 = loss.predict(steps), language.predict(steps)
    return pd.DataFrame(
        {"step": steps, "by_loss": y1, "by_language": y2, "delta": y1 - y2, "low": low, "high": high}
    )


def _zero(a: Float[np.ndarray, "*n"] | float, b: Float[np.ndarray, "*n"] | float) -> Float[np.ndarray, "*n"]:
    falls = np.less(b, 0)
    with np.errstate(over="ignore"):  # a line that hardly falls reaches 0 at infinity
        return np.where(falls, 10 ** np.divide(a, np.where(falls, np.negative(b), 1)), np.inf)
