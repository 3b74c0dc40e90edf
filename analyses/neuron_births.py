"""When neurons become a language's and cease to be: births, deaths, and those that only flicker.

A neuron is *settled* at a checkpoint at which it is a member, if it also is one at the checkpoint before or
after; at the last, which has none after it, any member is. It is born at the first checkpoint at which it is
settled and dies at the one after the last. So a single visit is no life, a single gap no death, and what is
born or dies at the last checkpoint is known from that one alone. Who is never settled flickers.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float

from babelscope.core.stats import wilson_interval

Members = Bool[np.ndarray, "step *shape"]


def settled(members: Members) -> Members:
    """Where a member is one at a neighbouring checkpoint too, or the checkpoint is the last."""
    beside = np.zeros_like(members)
    beside[1:] |= members[:-1]
    beside[:-1] |= members[1:]
    beside[-1] = True
    return members & beside


def lives(
    members: xr.DataArray, scores: xr.DataArray, *, pivot: str, halves: xr.DataArray | None
) -> pd.DataFrame:
    """A row per language and neuron that was ever born; as `NeuronLife.table_` says.

    Parameters
    ----------
    members, scores
        (step, language, layer, neuron).
    halves
        (half, step, language, layer, neuron), or None.
    """
    steps, languages = members["step"].to_numpy(), members["language"].to_numpy()
    stays = settled(members.to_numpy())
    language, layer, neuron = np.nonzero(stays.any(0))
    at = (slice(None), language, layer, neuron)
    mine, stay, score = members.to_numpy()[at], stays[at], scores.to_numpy()[at]  # (step, row)
    born, last = stay.argmax(0), len(steps) - 1 - stay[::-1].argmax(0)
    inside = (np.arange(len(steps))[:, None] >= born) & (np.arange(len(steps))[:, None] <= last)
    present = (mine & inside).sum(0)
    pivots = members.sel(language=pivot).to_numpy()[:, layer, neuron]
    earlier = np.arange(len(steps))[:, None] < born
    best = np.where(np.isfinite(score), score, -np.inf).argmax(0)
    rows = np.arange(len(layer))
    table = pd.DataFrame(
        {
            "language": languages[language],
            "layer": layer + 1,
            "neuron": neuron,
            "born": steps[born],
            "died": np.where(last < len(steps) - 1, steps[np.minimum(last + 1, len(steps) - 1)], np.nan),
            "from_start": born == 0,
            "present": present,
            "share_present": present / inside.sum(0),
            "best": steps[best],
            "score_first": score[0],
            "score_best": score[best, rows],
            "score_last": score[-1],
            "was_pivot_at_start": pivots[0],
            "was_pivot_before": (pivots & earlier).any(0),
        }
    )
    if halves is None:
        return table
    both = np.all([settled(half).any(0) for half in halves.to_numpy()], axis=0)
    return table.assign(both_halves=both[at[1:]])


def turnover(members: xr.DataArray, table: pd.DataFrame) -> pd.DataFrame:
    """Members, births and deaths at every step; as `NeuronLife.counts_` says."""
    steps = members["step"].to_numpy()
    present, stays = members.to_numpy(), settled(members.to_numpy())
    frames = []
    for number, language in enumerate(members["language"].to_numpy().tolist()):
        mine = table.loc[table["language"] == language]
        births, deaths = (
            mine[event].value_counts().reindex(steps, fill_value=0).to_numpy(float)
            for event in ("born", "died")
        )
        births[0] = deaths[0] = np.nan  # what was there before is not known
        counts = {"members": present[:, number].sum((1, 2)), "settled": stays[:, number].sum((1, 2))}
        frames.append(
            pd.DataFrame({"step": steps, "language": language, **counts, "births": births, "deaths": deaths})
        )
    return pd.concat(frames, ignore_index=True)


def flicker(members: xr.DataArray) -> pd.DataFrame:
    """How many of the neurons that were ever members were never settled; as `NeuronLife.flicker_` says."""
    rows = []
    for language in members["language"].to_numpy().tolist():
        sets = members.sel(language=language).to_numpy()
        ever, stays = sets.any(0), settled(sets).any(0)
        n, passing = int(ever.sum()), int((ever & ~stays).sum())
        low, high = wilson_interval(passing, n)
        share = passing / n if n else np.nan
        chance = _by_chance(sets.mean(-1)) if n else np.nan
        rows.append((language, n, passing, share, low, high, chance))
    return pd.DataFrame(rows, columns=["language", "ever", "passing", "share", "low", "high", "chance"])


def _by_chance(rate: Float[np.ndarray, "step layer"]) -> float:
    """Expected passing / expected ever, if a layer's members were drawn anew at every checkpoint."""
    absent = np.cumprod(1 - rate, axis=0)[-1]
    out, single = 1 - rate[0], rate[0]  # never settled so far, and not a member now, or one
    for member in rate[1:]:
        out, single = (out + single) * (1 - member), out * member
    return float((out - absent).sum() / (1 - absent).sum())
