"""What a sweep would cost, measured on a small sample of it: nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import xarray as xr

from babelscope.analyses.executor import Executor
from babelscope.analyses.sharding import WHOLE, Shard
from babelscope.analyses.store import Store
from babelscope.checkpoints.series import Checkpoint, Series
from babelscope.interp.measure import UNDIVIDED, Drive, FromModel, Measure

SAMPLE = 8  # items of each stream: enough to be past the first batch's overhead


def plan(
    series: Series,
    measures: Sequence[Measure[Any]],
    *,
    device: str | None = None,
    dtype: str = "float32",
    shard: Shard = WHOLE,
) -> dict[str, Any]:
    """Checkpoints to do, bytes to read, tokens to run and an estimate of the time; arguments as of `sweep`.

    The estimate runs a few items of every measure on one checkpoint and multiplies; it is good to a factor
    of two. What is derived from stored results, such as the marking of answers, is not in it, and neither is
    the random model. What is no sum over items, such as the training of a tuned lens, or is handed to another
    measure, is run whole. Only that checkpoint's weights are read, and with nothing to do none. One whose
    weights were never looked at counts as not measured.

    Returns
    -------
    dict
        `checkpoints`, `checkpoints_to_fetch` (from the hub), `results_missing`, `bytes_to_read` (of those
        that are here), `tokens`, `seconds` (None if none is here), and of these `seconds_by_measure`.
    """
    executor = Executor(Store(series.state / "store"), measures, series, dtype=dtype)
    todo = {c: _missing(executor, c) for c in shard.of(series.checkpoints)}
    todo = {checkpoint: missing for checkpoint, missing in todo.items() if missing}
    here = [checkpoint for checkpoint in todo if checkpoint.is_here]
    sizes = {
        m.name: sum(len(i.ids) for i in executor.reading(m).items)
        for m in executor.measures
        if todo and isinstance(m, FromModel)
    }
    seconds = _seconds(executor, sizes, todo, here[0], device) if here else {}
    return {
        "checkpoints": len(todo),
        "checkpoints_to_fetch": len(todo) - len(here),
        "results_missing": sum(map(len, todo.values())),
        "bytes_to_read": sum(checkpoint.n_bytes for checkpoint in here),
        "tokens": sum(sizes.get(m.name, 0) for missing in todo.values() for m in missing),
        "seconds": None if todo and not here else round(sum(seconds.values()), 1),
        "seconds_by_measure": {name: round(spent, 1) for name, spent in seconds.items()},
    }


def _missing(executor: Executor, checkpoint: Checkpoint) -> list[Measure[Any]]:
    fingerprints = executor.series.fingerprints
    if checkpoint.is_here and fingerprints.knows(checkpoint.path):
        return executor.missing(fingerprints.of(checkpoint.path))
    return list(executor.measures)


def _seconds(
    executor: Executor,
    sizes: dict[str, int],
    todo: dict[Checkpoint, list[Measure[Any]]],
    first: Checkpoint,
    device: str | None,
) -> dict[str, float]:
    """By measure, for all that is to do; reading the weights is "loading"."""
    start = time.perf_counter()
    anatomy = executor.live(device, prefetch=False).at(first)
    seconds = {"loading": (time.perf_counter() - start) * len(todo)}
    needed = {m.needs.name for m in executor.measures if isinstance(m, FromModel) and m.needs}
    found: dict[str, xr.Dataset] = {}
    for measure in executor.measures:
        times = sum(measure in missing for missing in todo.values())
        if not isinstance(measure, FromModel) or not times:
            continue
        reading = executor.reading(measure)
        undivided = isinstance(measure, Drive) and measure.shard_tokens == UNDIVIDED
        whole = undivided or measure.name in needed
        # Spread over the stream, which is sorted by language: some measures are about one language's prompts.
        items = reading.items if whole else reading.items[:: -(-len(reading.items) // SAMPLE)]
        using = measure
        if measure.needs:  # measured just now, or already stored
            name, fingerprints = measure.needs.name, executor.series.fingerprints
            stored = executor.key(measure.needs, fingerprints.of(first.path))
            using = measure.using(found[name] if name in found else executor.store.load(stored))
        start = time.perf_counter()
        part = executor.compute(anatomy, [using], reading, items)[measure.name]
        spent = time.perf_counter() - start
        if measure.name in needed:
            found[measure.name] = measure.combine([part], reading)
        share = sizes[measure.name] / sum(len(item.ids) for item in items)
        seconds[measure.name] = spent * share * times
    return seconds
