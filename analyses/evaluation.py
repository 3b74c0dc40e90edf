"""What solving problems shows: pass@k with intervals, changes between checkpoints, knowledge transferred.

Everything is per language and about the problems that were run; how many were not is a column, never a
failure. Checkpoints answer the same problems, so they are compared problem by problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float

from babelscope.analyses.tables import outcomes
from babelscope.core.errors import InputError
from babelscope.core.stats import (
    bootstrap_mean,
    mcnemar,
    paired_difference,
    percentile_interval,
    wilson_interval,
)
from babelscope.probes.pass_at_k import pass_at_k


def scores_at_k(data: xr.Dataset, ks: Sequence[int] = (1,)) -> pd.DataFrame:
    """pass@k: step, language, k, problems, not_run, samples, estimate, low, high.

    Intervals are Wilson's for one completion per problem; for more, problems are resampled.

    Parameters
    ----------
    data
        Of `ProblemScores`, with a `step`.
    ks
        Each at most the number of samples.

    Raises
    ------
    InputError
        For a k beyond the number of samples.
    """
    samples = data.sizes["sample"]
    rows = []
    for language in pd.unique(data["language"].to_numpy()):
        some = data.isel(problem=np.flatnonzero(data["language"].to_numpy() == language))
        ran = some["ran"].all(("step", "sample")).to_numpy()
        solved = some["solved"].sum("sample").transpose("problem", "step").to_numpy()[ran]
        for k in ks:
            by_problem = pass_at_k(solved, samples, k)  # (problem, step)
            for column, step in enumerate(data["step"].to_numpy().tolist()):
                estimate, low, high = _with_interval(by_problem[:, column], samples)
                rows.append(
                    {
                        "step": step,
                        "language": language,
                        "k": k,
                        "problems": int(ran.sum()),
                        "not_run": int((~ran).sum()),
                        "samples": samples,
                        "estimate": estimate,
                        "low": low,
                        "high": high,
                    }
                )
    return pd.DataFrame(rows)


def _with_interval(values: Float[np.ndarray, " problem"], samples: int) -> tuple[float, float, float]:
    if not len(values):
        return np.nan, np.nan, np.nan
    if samples == 1:
        low, high = wilson_interval(int(values.sum()), len(values))
    else:
        low, high = percentile_interval(bootstrap_mean(values))
    return float(values.mean()), float(low), float(high)


def changes(data: xr.Dataset) -> pd.DataFrame:
    """Each checkpoint against the one before it and against the first, by greedy completions.

    Columns: language, step, against, difference, low, high (problems resampled, paired), gained, lost, p
    (McNemar's, exact, for one comparison: a table of many will hold small ones by chance).
    """
    rows = []
    for language in pd.unique(data["language"].to_numpy()):
        steps, _, solved = outcomes(data, language)
        if not len(solved):
            continue
        for later in range(1, len(steps)):
            for earlier in sorted({0, later - 1}):
                found = paired_difference(solved[:, later], solved[:, earlier])
                test = mcnemar(solved[:, earlier], solved[:, later])
                rows.append(
                    {
                        "language": language,
                        "step": int(steps[later]),
                        "against": int(steps[earlier]),
                        "difference": found.estimate,
                        "low": found.low,
                        "high": found.high,
                        "gained": test.gained,
                        "lost": test.lost,
                        "p": test.p,
                    }
                )
    return pd.DataFrame(rows)


def pivot_specific(
    pivot_run: xr.Dataset, target_run: xr.Dataset, *, pivot: str, target: str
) -> frozenset[str]:
    """Problems solved in the pivot by a model of the pivot, and not in the target by a model of it alone.

    The P of arXiv 2412.07298: what a new language can have from nowhere but the pivot. Both are scores of one
    checkpoint, or of several, of which the last counts.

    Raises
    ------
    InputError
        If the two share no problem.
    """
    _, known, solved = outcomes(_with_step(pivot_run), pivot)
    _, asked, without = outcomes(_with_step(target_run), target)
    if not set(known) & set(asked):
        raise InputError(
            f"no problem was asked both in {pivot} of the one run and in {target} of the other; "
            "evaluate both with the same --problems"
        )
    by_pivot = {name for name, row in zip(known, solved, strict=True) if row[-1]}
    by_target = {name for name, row in zip(asked, without, strict=True) if row[-1]}
    return frozenset((by_pivot & set(asked)) - by_target)


def _with_step(data: xr.Dataset) -> xr.Dataset:
    return data if "step" in data.dims else data.expand_dims(step=[0])


def knowledge_transferred(data: xr.Dataset, specific: frozenset[str], *, target: str) -> pd.DataFrame:
    """Share of what is solved in the target that can only be the pivot's: |P ∩ C| / |C| at every step.

    Columns: step, solved (|C|), specific (|P ∩ C|), share, low, high (Wilson); undefined, not 0, where
    nothing is solved.
    """
    steps, names, solved = outcomes(data, target)
    of_pivot: Bool[np.ndarray, " problem"] = np.isin(names, sorted(specific))
    both, total = (solved & of_pivot[:, None]).sum(0), solved.sum(0)
    low, high = wilson_interval(both, total).T
    share = both / np.where(total > 0, total, np.nan)
    return pd.DataFrame(
        {"step": steps, "solved": total, "specific": both, "share": share, "low": low, "high": high}
    )
