"""Graded scores, for models too small to solve a problem: what they think of solutions that are given.

    bits per byte of the solution after its prompt
    preference: how many of a problem's broken copies are less likely than its solution, mean over problems;
        ½ for a model that cannot tell them apart
    translation loss −log P(y | x): a program after the same program in another language, beside the same
        after nothing; every ordered pair of languages

All from one measure (`babelscope.interp.continuation`). Problems are resampled for the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from babelscope.core.stats import bootstrap_mean, percentile_interval
from babelscope.interp.continuation import Continuation

SOLUTION, BROKEN, TRANSLATION, ALONE = "solution", "broken", "translation", "alone"
BETWEEN = "\n\n"  # programs: what stands before one that stands alone, too, so that both begin alike


def graded(
    solutions: Mapping[str, Mapping[str, tuple[str, str]]],
    broken: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[Continuation]:
    """What to read.

    Parameters
    ----------
    solutions
        Language → problem → prompt and solution.
    broken
        Language → problem → broken solutions, after the same prompt.
    """
    asked = []
    for language, programs in solutions.items():
        for name, (prompt, solution) in programs.items():
            asked.append(Continuation(prompt, solution, name, language, SOLUTION))
            asked += [
                Continuation(prompt, copy, name, language, BROKEN)
                for copy in broken.get(language, {}).get(name, ())
            ]
            asked.append(Continuation(BETWEEN, prompt + solution, name, language, ALONE))
            asked += [
                Continuation(
                    "".join(others[name]).rstrip("\n") + BETWEEN,
                    prompt + solution,
                    name,
                    language,
                    TRANSLATION,
                    other,
                )
                for other, others in solutions.items()
                if other != language and name in others
            ]
    return asked


def grades(data: xr.Dataset) -> pd.DataFrame:
    """Bits per byte and preference: step, language, score, problems, estimate, low, high."""
    rows = []
    for language in pd.unique(data["language"].to_numpy()):
        right = _by_problem(data, SOLUTION, language)
        bits, weights = right["nll"] / np.log(2) / right["bytes"], right["bytes"]
        rows += _rows(bits, weights, language=language, score="bits per byte")
        broken = _of(data, BROKEN, language)
        if broken.sizes["text"]:
            rows += _rows(_preferred(right, broken), None, language=language, score="preference")
    return pd.DataFrame(rows)


def translation_losses(data: xr.Dataset) -> pd.DataFrame:
    """Translation: step, source, language, problems, score, estimate, low, high.

    Scores: "nats" of a program after the same program in `source`; "gain", by how much fewer these are than
    after nothing. Pairs in order; the pairs' problems are those that both have.
    """
    rows = []
    for language in pd.unique(data["language"].to_numpy()):
        alone = _by_problem(data, ALONE, language)
        translated = _of(data, TRANSLATION, language)
        for source in pd.unique(translated["source"].to_numpy()):
            after = translated.isel(text=np.flatnonzero(translated["source"].to_numpy() == source))
            after = after.drop_vars("text").swap_dims(text="id")
            gain = alone["nll"].sel(id=after["id"]) - after["nll"]
            for score, values in (("nats", after["nll"]), ("gain", gain)):
                rows += _rows(values, None, source=source, language=language, score=score)
    return pd.DataFrame(rows)


def _of(data: xr.Dataset, role: str, language: str) -> xr.Dataset:
    chosen = (data["role"].to_numpy() == role) & (data["language"].to_numpy() == language)
    return data.isel(text=np.flatnonzero(chosen))


def _by_problem(data: xr.Dataset, role: str, language: str) -> xr.Dataset:
    return _of(data, role, language).drop_vars("text").swap_dims(text="id")


def _preferred(right: xr.Dataset, broken: xr.Dataset) -> xr.DataArray:
    """(id, step): the share of a problem's broken copies less likely than its solution; ties are ½."""
    theirs = broken["nll"].transpose("text", "step").to_numpy()
    own = right["nll"].transpose("id", "step").sel(id=broken["id"].to_numpy()).to_numpy()
    likelier = pd.DataFrame((own < theirs) + 0.5 * (own == theirs), columns=broken["step"].to_numpy())
    return xr.DataArray(likelier.groupby(broken["id"].to_numpy()).mean(), dims=("id", "step"))


def _rows(values: xr.DataArray, weights: xr.DataArray | None, **labels: str) -> list[dict[str, object]]:
    """One row per step of the (weighted) mean over problems."""
    table = values.transpose("id", "step").to_numpy()
    by_problem = None if weights is None else weights.isel(step=0).to_numpy().astype(float)
    interval = percentile_interval(bootstrap_mean(table, weights=by_problem))
    means = np.average(table, axis=0, weights=by_problem)
    return [
        {"step": int(step), **labels, "problems": len(table), "estimate": mean, "low": low, "high": high}
        for step, mean, (low, high) in zip(values["step"].to_numpy(), means, interval, strict=True)
    ]
