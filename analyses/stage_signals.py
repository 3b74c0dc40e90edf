"""The signals of one series that may show a transition, with bootstrap draws, out of what was measured.

Each is resampled the way it was gathered: documents, problems, concepts and their prompts, blocks of text;
always the same resample at every checkpoint. A signal that a series lacks is missing with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from babelscope.analyses import tables
from babelscope.analyses.pivot_share import PivotShare
from babelscope.analyses.score_curve import ScoreCurve
from babelscope.analyses.signal_curve import SignalCurve, SignalDetector
from babelscope.analyses.stage_votes import EXPECTED, Found, StageVotes
from babelscope.analyses.stages import BUMP, StageDetector
from babelscope.analyses.sweep import Results
from babelscope.core.errors import InputError
from babelscope.core.languages import shown
from babelscope.core.stats import bootstrap_mean, resample
from babelscope.interp.neuron_blocks import blocks_of_each, cells_of, spoken
from babelscope.interp.selection import Lape

PIVOT_ONLY = "pivot only"  # the group of problems that only the pivot's text answers
RELATIVE = 0.05  # of the lowest loss, and of the highest count: what is less is no change to speak of
DRAWS = 400  # of each signal; of neurons, where each draw is a selection of its own, fewer
NEURON_DRAWS = 100


def stage_votes(results: Results, stages: Mapping[str, StageDetector], working: PivotShare) -> StageVotes:
    """Fit every signal that the results have, and count the votes.

    Parameters
    ----------
    results
        Of `sweep`, with losses, neurons and the working language; problems where there are any.
    stages
        Detectors that were fitted already, by signal: "score", "pivot knowledge", "identifier choice".
    working
        The pivot's part in what layers decode to.
    """
    pivot, target = working.pivot, working.target
    asked = results.get("problem_scores")
    found: dict[str, Found] = {signal: one for signal, one in stages.items() if signal in EXPECTED}
    missing: dict[str, str] = {}
    neurons: dict[str, SignalCurve] = {}

    def neurons_of(language: str) -> SignalCurve:
        if not neurons:
            neurons.update(neuron_counts(results["transferring_neurons"]))
        return neurons[language]

    curves: dict[str, Callable[[], SignalCurve]] = {
        "knowledge transferred": lambda: knowledge_transferred(asked, pivot=pivot, target=target),
        "working language": lambda: soft_share(working),
        "target neurons": lambda: neurons_of(target),
        "pivot neurons": lambda: neurons_of(pivot),
        "target loss": lambda: held_out_loss(results["language_loss"], target),
        "pivot loss": lambda: held_out_loss(results["language_loss"], pivot),
    }
    for signal, curve in curves.items():
        try:
            found[signal] = SignalDetector().fit(curve())
        except InputError as error:
            missing[signal] = str(error)
    try:
        found["pivot score"] = StageDetector(draws=DRAWS - 1).fit(_solved(asked, pivot))
    except InputError as error:
        missing["pivot score"] = str(error)
    unmeasured = "no problems were asked" if asked is None else "it could not be fitted, or has no problems"
    return StageVotes().fit(
        found, missing={signal: unmeasured for signal in EXPECTED if signal not in found} | missing
    )


def held_out_loss(data: xr.Dataset, language: str) -> SignalCurve:
    """Mean held-out loss per token; documents are resampled."""
    nll, tokens, _ = tables.document_losses(data, language)
    values = nll.sum(0) / tokens.sum()
    return SignalCurve(
        name=f"the held-out loss in {shown(language)}",
        unit="nats",
        scale="log",
        least=RELATIVE * float(values.min()),
        steps=data["step"].to_numpy(),
        values=values,
        draws=bootstrap_mean(nll / tokens[:, None], weights=tokens, draws=DRAWS),
        clusters=len(tokens),
    )


def soft_share(working: PivotShare) -> SignalCurve:
    """The pivot's soft share in the intermediate layers; concepts and their prompts are resampled."""
    return SignalCurve(
        name=f"the soft share of {shown(working.pivot)} in the middle layers",
        unit="share",
        scale="logit",
        least=BUMP,
        steps=working.steps_,
        values=working.estimate("soft"),
        draws=working.draws_["soft"],
        clusters=working.concepts_,
    )


def knowledge_transferred(data: xr.Dataset | None, *, pivot: str, target: str) -> SignalCurve:
    """|P ∩ C| / |C|: how much of what is solved in the target is what the pivot knew; problems are resampled.

    P are the problems that the model at step 0 solves in the pivot, of the group "pivot only" where problems
    have groups: without groups, P also holds what the target's own text could have taught. C are those solved
    in the target now. Where C is empty the share is undefined.

    Raises
    ------
    InputError
        If there are no problems, no step 0, or no problem that is asked in both languages.
    """
    if data is None:
        raise InputError("no problems were asked")
    steps, ids, solved = tables.outcomes(data, target)
    known_steps, known_ids, known = tables.outcomes(data, pivot)
    if known_steps[0] != 0:
        raise InputError(f"what the {shown(pivot)} model knew is not known: there is no checkpoint at step 0")
    if not set(ids) & set(known_ids):
        raise InputError(f"no problem is asked in both {shown(pivot)} and {shown(target)}")
    knew = {one for one, was_solved in zip(known_ids, known[:, 0], strict=True) if was_solved}
    asked = data.isel(problem=np.flatnonzero(data["language"].to_numpy() == target))
    group = dict(zip(asked["id"].to_numpy().tolist(), asked["group"].to_numpy().tolist(), strict=True))
    if PIVOT_ONLY in group.values():
        knew = {one for one in knew if group.get(one) == PIVOT_ONLY}
    values, draws = transferred_share(np.array([one in knew for one in ids]), solved)
    return SignalCurve(
        name="the knowledge transferred",
        unit="share",
        scale="arcsine",
        least=BUMP,
        steps=steps,
        values=values,
        draws=draws,
        clusters=len(ids),
    )


def transferred_share(
    known: Bool[np.ndarray, " problem"], solved: Bool[np.ndarray, "problem step"], *, seed: int = 0
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, "draws step"]]:
    """|P ∩ C| / |C| with P `known` and C `solved`, and its bootstrap draws.

    At every checkpoint one more problem of each kind is resampled along: none of ten is not certain to be
    none of the next ten.
    """
    rng = np.random.default_rng(seed)
    both, all_ = solved[known].sum(0), solved.sum(0)
    values = np.divide(both, all_, out=np.full(all_.shape, np.nan), where=all_ > 0)
    times = resample(len(known), draws=DRAWS, seed=rng)
    more = rng.poisson(1, (2, DRAWS, solved.shape[1]))
    both = times[:, known] @ solved[known].astype(int) + more[0]
    all_ = times @ solved.astype(int) + more.sum(0)
    defined = (all_ > 0) & ~np.isnan(values)
    return values, np.divide(both, all_, out=np.full(all_.shape, np.nan), where=defined)


def neuron_counts(data: xr.Dataset) -> dict[str, SignalCurve]:
    """Language-transferring neurons by language, by the thresholds of the first checkpoint.

    Those let counts rise and fall freely: within a fixed 1 % one language's gain is another's loss. Blocks of
    text are resampled.
    """
    first = data.isel(step=0, drop=True)
    thresholds, cells = Lape().thresholds(first), cells_of(first)
    languages, own = cells.attrs["languages"], spoken(cells).astype(bool)
    rng = np.random.default_rng(0)
    times = np.zeros((len(own), NEURON_DRAWS + 1, own.shape[1]))
    for language, mine in enumerate(own):
        times[language, 0, mine] = 1
        times[language, 1:, mine] = resample(int(mine.sum()), draws=NEURON_DRAWS, seed=rng).T
    counts = []
    for number in range(data.sizes["step"]):
        cells = cells_of(data.isel(step=number, drop=True))
        total, tokens = cells["total"].to_numpy().reshape(own.shape[1], -1), cells["tokens"].to_numpy()
        # A mean of blocks is nowhere above the highest of them: most neurons cannot pass, however resampled.
        near = (total / tokens[:, None]).max(0) > thresholds.rate
        rate = (times @ total[:, near]) / (times @ tokens)[..., None]  # (language, draw, neuron)
        counts.append(thresholds.members(rate).sum(2))
    drawn = np.stack(counts, axis=2).astype(float)  # (language, draw, step)
    return {
        language: _count(language, data["step"].to_numpy(), mine, blocks)
        for language, mine, blocks in zip(languages, drawn, blocks_of_each(cells).tolist(), strict=True)
    }


def _count(
    language: str, steps: Int[np.ndarray, " step"], drawn: Float[np.ndarray, "draw step"], blocks: int
) -> SignalCurve:
    return SignalCurve(
        name=f"the number of neurons of {shown(language)}",
        unit="neurons",
        scale="root",
        least=max(1.0, RELATIVE * float(drawn[0].max())),
        steps=steps,
        values=drawn[0],
        draws=drawn[1:],
        clusters=blocks,
    )


def _solved(data: xr.Dataset | None, language: str) -> ScoreCurve:
    if data is None:
        raise InputError("no problems were asked")
    steps, _, solved = tables.outcomes(data, language)
    if not len(solved):
        raise InputError(f"no problems were asked in {shown(language)}")
    return ScoreCurve.from_outcomes(steps, solved)
