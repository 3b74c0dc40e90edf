"""Share of the pivot's system in a model that learns a new language: two estimators and their disagreement.

By held-out loss on the new language (Eq. 2 of "The Rise and Down of Babel Tower", arXiv 2412.07298, with its
sign corrected: as printed it rises from 0 to 1 and is the share of the new language):

    P(l) = (l − β) / (α − β)

α is the loss where the new language's vocabulary has been learnt but nothing else, β the lowest smoothed
loss. P is 1 at α and 0 at β by construction, also where nothing is transferred: it is the part of the fall in
loss that is still to come, never evidence of transfer. It depends on which checkpoint is α and on how long
the run is, hence the *sensitivity band*.

By working language: the pivot's share among the identifiers that intermediate layers decode to (Eq. 1).

`trend.py` compares the two as the authors do.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.ndimage import median_filter
from scipy.stats import norm

from babelscope.core.errors import InputError
from babelscope.core.stats import LEVEL, percentile_interval, resample

ALPHA_STEP = 100  # the paper's steps 90–100 after a cold start
SHORT_RUN = 5_000  # below this many steps, 100 is not yet "vocabulary only"
WINDOW = (0.5, 2.0)  # how far the α checkpoint is moved for the band
KEPT = (1.0, 0.75, 0.5)  # parts of the run, in log-steps from α on, that the band looks at

CAVEAT = (
    "P falls from 1 to 0 by construction, also where nothing is transferred:"
    " it is not evidence of transfer, and it changes with the choice of alpha and the length of the run"
)


def pivot_share(
    loss: Float[np.ndarray, "*shape"], *, alpha: float, beta: float
) -> Float[np.ndarray, "*shape"]:
    """Eq. 2, sign corrected: (l − β) / (α − β), not clipped.

    Raises
    ------
    InputError
        If α is not above β: the loss did not fall between them, so no share of that fall exists.
    """
    if not alpha > beta:
        raise InputError(
            f"alpha = {alpha:.6g} is not above beta = {beta:.6g}: the held-out loss on the new language does"
            " not fall after the alpha checkpoint; train longer or save checkpoints earlier"
        )
    return (loss - beta) / (alpha - beta)


class LossProportion:
    """Pivot share by held-out loss on the new language.

    Parameters
    ----------
    warmup_steps
        Steps of learning-rate warm-up. In runs shorter than 5,000 steps the α checkpoint is the one nearest
        to the end of warm-up plus the same again; in longer runs the one nearest to step 100. Nearest in
        log-steps; a short run without warm-up takes its first checkpoint after step 0.
    resamples
        Bootstrap resamples of the documents, the same ones at every checkpoint.
    seed
        Of the bootstrap.

    Attributes
    ----------
    alpha_step_, alpha_ : int, float
        The α checkpoint and its loss.
    beta_step_, beta_ : int, float
        Where the loss is lowest after a running median of three checkpoints, and that loss.
    losses_ : (steps,)
        Mean held-out loss per token.
    proportion_, interval_, band_ : (steps,), (steps, 2), (steps, 2)
        P, its bootstrap interval over documents, and the lowest and highest P under other choices of α
        (× 0.5 to 2) and of the end of the run (without its last quarter or half of log-steps after α).
    variants_ : DataFrame
        Those choices: alpha_step, last_step, alpha, beta. One whose α is not above its β has no P.
    draws_ : (resamples, steps)
        Bootstrap draws of P.
    caveat_ : str
        What P is not; to be shown wherever P is.
    """

    def __init__(self, *, warmup_steps: int, resamples: int = 1000, seed: int = 0):
        self.warmup_steps = warmup_steps
        self.resamples = resamples
        self.seed = seed

    def fit(
        self,
        steps: Int[np.ndarray, " steps"],
        nll: Float[np.ndarray, "steps documents"],
        tokens: Int[np.ndarray, " documents"],
    ) -> Self:
        """Estimate P at every checkpoint.

        Parameters
        ----------
        steps
            Training steps, increasing; 0 is the pivot model.
        nll
            Negative log-likelihood of each held-out document of the new language, summed over its tokens.
        tokens
            Tokens that each document was scored on.

        Raises
        ------
        InputError
            For shapes that do not fit, values that are not finite, fewer than two documents or three trained
            checkpoints, or an α that is not above β or not resolved from it.
        """
        steps, nll, tokens = np.asarray(steps), np.asarray(nll, float), np.asarray(tokens)
        _check_losses(steps, nll, tokens)
        nll, tokens = nll[:, tokens > 0], tokens[tokens > 0]
        self.steps_ = steps
        self.losses_ = nll.sum(1) / tokens.sum()

        aim = ALPHA_STEP if steps[-1] >= SHORT_RUN else max(2 * self.warmup_steps, 1)
        at = _nearest(steps, aim)
        smooth = _running_median(self.losses_)
        self.alpha_step_, self.alpha_ = int(steps[at]), float(self.losses_[at])
        self.beta_step_, self.beta_ = int(steps[smooth.argmin()]), float(smooth.min())
        self.proportion_ = pivot_share(self.losses_, alpha=self.alpha_, beta=self.beta_)

        times = resample(len(tokens), draws=self.resamples, seed=self.seed)
        losses = (times @ nll.T) / (times @ tokens)[:, None]  # (resamples, steps)
        alpha = losses[:, at]
        beta = _running_median(losses).min(1)
        low, _ = percentile_interval(alpha - beta)
        if low <= 0:
            raise InputError(
                f"alpha = {self.alpha_:.6g} and beta = {self.beta_:.6g} differ by less than the {len(tokens)}"
                " held-out documents can resolve; score more text or train longer"
            )
        fall = np.where(alpha > beta, alpha - beta, np.nan)
        self.draws_ = (losses - beta[:, None]) / fall[:, None]
        self.interval_ = percentile_interval(self.draws_)

        self.variants_ = self._variants(aim)
        under = [self.variants_at(step)["proportion"] for step in steps]
        self.band_ = np.array([(one.min(), one.max()) for one in under])  # pandas leaves NaN out
        self.span_ = (self.alpha_step_, self.beta_step_)
        self.caveat_ = CAVEAT
        return self

    def at(self, step: float) -> float:
        """P at a step, between checkpoints linear in log10(step)."""
        return float(np.interp(*_log_steps(step, self.steps_), self.proportion_[self.steps_ > 0]))

    def draws_at(self, steps: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        """One bootstrap draw of P at each of `steps`, which are themselves draws of an uncertain step."""
        wanted, known = _log_steps(steps, self.steps_)
        rows = np.arange(len(wanted)) % len(self.draws_)
        curves = self.draws_[:, self.steps_ > 0]
        return np.array([np.interp(x, known, curves[row]) for x, row in zip(wanted, rows, strict=True)])

    def variants_at(self, step: float) -> pd.DataFrame:
        """`variants_` with the P that each gives at a step; NaN where its run ends earlier."""
        table = self.variants_.copy()
        loss = self.losses_[0]
        if step > 0:
            loss = np.interp(*_log_steps(step, self.steps_), self.losses_[self.steps_ > 0])
        defined = (table["alpha"] > table["beta"]) & (step <= table["last_step"])
        table["proportion"] = ((loss - table["beta"]) / (table["alpha"] - table["beta"])).where(defined)
        return table

    def _variants(self, aim: float) -> pd.DataFrame:
        moved = {_nearest(self.steps_, aim * factor) for factor in np.geomspace(*WINDOW, 9)}
        start, end = np.log10(self.alpha_step_), np.log10(self.steps_[-1])
        rows = []
        for at in sorted(moved):
            for part in KEPT:
                kept = self.steps_ <= 10 ** (start + part * (end - start)) * (1 + 1e-9)
                beta = _running_median(self.losses_[kept]).min()
                rows.append((self.steps_[at], self.steps_[kept][-1], self.losses_[at], beta))
        return pd.DataFrame(rows, columns=["alpha_step", "last_step", "alpha", "beta"]).drop_duplicates()

    def to_frame(self) -> pd.DataFrame:
        """One row per checkpoint: step, loss, proportion, low, high, band_low, band_high, shown (clipped)."""
        return pd.DataFrame(
            {
                "step": self.steps_,
                "loss": self.losses_,
                "proportion": self.proportion_,
                "low": self.interval_[:, 0],
                "high": self.interval_[:, 1],
                "band_low": self.band_[:, 0],
                "band_high": self.band_[:, 1],
                "shown": np.clip(self.proportion_, 0, 1),
            }
        )


class WorkingLanguageProportion:
    """Pivot share by working language: already a share, so only its uncertainty is put into the same form.

    Parameters
    ----------
    resamples, seed
        Draws to make where none are given.

    Attributes
    ----------
    proportion_, interval_, draws_ : (steps,), (steps, 2), (draws, steps)
        NaN where no cell held an identifier.
    """

    def __init__(self, *, resamples: int = 1000, seed: int = 0):
        self.resamples = resamples
        self.seed = seed

    def fit(
        self,
        steps: Int[np.ndarray, " steps"],
        share: Float[np.ndarray, " steps"],
        *,
        draws: Float[np.ndarray, "draws steps"] | None = None,
        interval: Float[np.ndarray, "steps 2"] | None = None,
        concepts: int | None = None,
    ) -> Self:
        """Take the pivot's share per step with its bootstrap draws, or with its interval.

        With `concepts`, how many were resampled, intervals are widened for them (`percentile_interval`).

        An interval alone is turned into normal draws that are independent between checkpoints. That is
        too narrow for a trend where the same prompts are read at every step: give draws where there are any.

        Raises
        ------
        InputError
            For shapes that do not fit, or unless exactly one of `draws` and `interval` is given.
        """
        steps, share = np.asarray(steps), np.asarray(share, float)
        if (draws is None) == (interval is None):
            raise InputError("give the pivot's share with either draws or interval, and not with both")
        _check_steps(steps, share.shape)
        if draws is None:
            interval = np.asarray(interval, float)
            if interval.shape != (len(steps), 2):
                raise InputError(
                    f"interval has shape {interval.shape}; one (low, high) for {len(steps)} steps"
                )
            width = (interval[:, 1] - interval[:, 0]) / (2 * norm.ppf((1 + LEVEL) / 2))
            noise = np.random.default_rng(self.seed).standard_normal((self.resamples, len(steps)))
            draws = share + width * noise
        else:
            draws = np.asarray(draws, float)
            if draws.shape[1:] != share.shape:
                raise InputError(f"draws have shape {draws.shape}; one column for each of {len(steps)} steps")
            interval = percentile_interval(draws, clusters=concepts)
        self.steps_, self.proportion_, self.interval_, self.draws_ = steps, share, interval, draws
        self.span_ = (int(steps[steps > 0][0]), int(steps[-1]))
        return self

    def to_frame(self) -> pd.DataFrame:
        """One row per checkpoint: step, proportion, low, high."""
        low, high = self.interval_.T
        return pd.DataFrame({"step": self.steps_, "proportion": self.proportion_, "low": low, "high": high})


def _log_steps(step: object, steps: Int[np.ndarray, " steps"]) -> tuple[np.ndarray, np.ndarray]:
    """log10 of the wanted steps, and of the trained checkpoints; before the first of these is the first."""
    return np.log10(np.maximum(np.asarray(step, float), 1e-9)), np.log10(steps[steps > 0])


def _nearest(steps: Int[np.ndarray, " steps"], aim: float) -> int:
    """Index of the trained checkpoint nearest to `aim` in log-steps."""
    distance = np.full(len(steps), np.inf)
    distance[steps > 0] = np.abs(np.log10(steps[steps > 0] / aim))
    return int(distance.argmin())


def _running_median(losses: Float[np.ndarray, "*draws steps"]) -> Float[np.ndarray, "*draws steps"]:
    """Median of three neighbours, ends kept: drops one lucky checkpoint, leaves a falling curve as it is."""
    return median_filter(losses, size=(1,) * (losses.ndim - 1) + (3,), mode="nearest")


def _check_steps(steps: np.ndarray, shape: tuple[int, ...]) -> None:
    if steps.ndim != 1 or shape[:1] != steps.shape:
        raise InputError(f"{steps.shape} steps for values of shape {shape}; give one row of values per step")
    if (np.diff(steps) <= 0).any() or steps[0] < 0:
        raise InputError(f"steps must increase from 0 or more, not {steps.tolist()}; sort the checkpoints")
    if (trained := int((steps > 0).sum())) < 3:
        raise InputError(f"{trained} checkpoints after step 0; at least 3 are needed")


def _check_losses(steps: np.ndarray, nll: np.ndarray, tokens: np.ndarray) -> None:
    _check_steps(steps, nll.shape)
    if nll.ndim != 2 or tokens.shape != nll.shape[1:]:
        raise InputError(f"losses of shape {nll.shape} for {tokens.shape} documents; give steps × documents")
    if (scored := int((tokens > 0).sum())) < 2:
        raise InputError(f"{scored} held-out documents with tokens; an interval needs at least 2")
    if not (finite := np.isfinite(nll).all(1)).all():
        raise InputError(f"the loss is not a number at steps {steps[~finite].tolist()}; leave these out")
