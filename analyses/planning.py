"""What a sweep would cost, measured on a small sample of it: nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from babelscope.analyses.sharding import WHOLE, Shard
from babelscope.analyses.store import Store
from babelscope.analyses.sweep import Executor
from babelscope.checkpoints.series import Series
from babelscope.interp.measure import Measure

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
    of two. With nothing to do no weights are read.

    Returns
    -------
    dict
        `checkpoints`, `results_missing`, `bytes_to_read`, `tokens`, `seconds`.
    """
    executor = Executor(Store(series.state / "store"), measures, series, dtype=dtype)
    todo = {c: executor.missing(series.fingerprints.of(c.path)) for c in shard.of(series.checkpoints)}
    todo = {checkpoint: missing for checkpoint, missing in todo.items() if missing}
    sizes = {m.name: sum(len(i.ids) for i in executor.reading(m).items) for m in measures if todo}
    return {
        "checkpoints": len(todo),
        "results_missing": sum(map(len, todo.values())),
        "bytes_to_read": sum(checkpoint.n_bytes for checkpoint in todo),
        "tokens": sum(sizes[m.name] for missing in todo.values() for m in missing),
        "seconds": round(_seconds(executor, sizes, todo, device), 1) if todo else 0.0,
    }


def _seconds(
    executor: Executor,
    sizes: dict[str, int],
    todo: dict[Any, list[Measure[Any]]],
    device: str | None,
) -> float:
    start = time.perf_counter()
    anatomy = executor.live(device).at(next(iter(todo)))
    loading = time.perf_counter() - start
    total = loading * len(todo)
    for measure in executor.measures:
        items = executor.reading(measure).items[:SAMPLE]
        start = time.perf_counter()
        executor.compute(anatomy, [measure], executor.reading(measure), items)
        spent = time.perf_counter() - start
        share = sizes[measure.name] / sum(len(item.ids) for item in items)
        total += spent * share * sum(measure in missing for missing in todo.values())
    return total
