"""The sweep: every wanted measure on every checkpoint of a series, each computed once.

What is stored already is never computed again: a sweep with nothing to do reads no weights and does not
import torch. A checkpoint that cannot be read, or fetched, is a finding, and the others are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xarray as xr

from babelscope.analyses.executor import Executor, with_sources
from babelscope.analyses.sharding import WHOLE, Shard
from babelscope.analyses.store import Key, Store
from babelscope.checkpoints.checkpoint import Checkpoint
from babelscope.checkpoints.findings import Finding
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.weights import BrokenWeightsError
from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.core.progress import progress
from babelscope.interp.measure import Derive, FromModel, Measure

if TYPE_CHECKING:
    from babelscope.checkpoints.live import LiveModel

RANDOM_SEED = 0  # of the random model that is a null


@dataclass(frozen=True)
class Results(Mapping[str, xr.Dataset]):
    """Results by measure, each with a leading `step`; loaded when asked for.

    Attributes
    ----------
    series
        What was measured.
    findings
        Checkpoints that could not be measured, and why; the series' own findings come first.
    owed
        What other shards have still to measure: names of checkpoints, and the random model. Conclusions
        wait for it.
    """

    series: Series
    findings: tuple[Finding, ...]
    owed: tuple[str, ...]
    _keys: Mapping[str, Mapping[int, Key]] = field(repr=False)
    _null_keys: Mapping[str, Key] = field(repr=False)
    _store: Store = field(repr=False)
    _loaded: dict[str, xr.Dataset] = field(default_factory=dict, repr=False)

    def __getitem__(self, measure: str) -> xr.Dataset:
        if measure not in self._loaded:
            keys = self._keys[measure]
            parts = [self._store.load(key) for key in keys.values()]
            steps = xr.IndexVariable("step", list(keys))
            self._loaded[measure] = xr.concat(parts, dim=steps, combine_attrs="drop_conflicts")
        return self._loaded[measure]

    def null(self, measure: str) -> xr.Dataset:
        """The measure on the randomly initialised model."""
        return self._store.load(self._null_keys[measure])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def sweep(
    series: Series,
    measures: Sequence[Measure[Any]],
    *,
    store: Store | None = None,
    device: str | None = None,
    dtype: str = "float32",
    shard: Shard = WHOLE,
    prefetch: bool = True,
) -> Results:
    """Measure every checkpoint of a series, computing only what is missing.

    Parameters
    ----------
    series
        The checkpoints.
    measures
        What is wanted of each.
    store
        Where results are kept; default: beside the checkpoints, in `.babelscope/store`.
    device
        Where the model runs; default: the process's own GPU, or the first, if there is one.
    dtype
        In which it runs: float32 or bfloat16; results of one are never taken for those of the other.
    shard
        Which part of the checkpoints to measure; `Results.owed` says what other processes have yet to do.
    prefetch
        Whether the next checkpoint is read while one is measured, which takes a second copy of the weights.

    Raises
    ------
    InputError
        If no checkpoint could be measured.
    """
    store = store or Store(series.state / "store")
    executor = Executor(store, measures, series, dtype=dtype)
    mine = shard.of(series.checkpoints)
    fingerprints, unread = _fingerprints(series, mine)
    missing = {checkpoint: executor.missing(fingerprint) for checkpoint, fingerprint in fingerprints.items()}
    todo = {checkpoint: measures for checkpoint, measures in missing.items() if measures}
    null = f"random-{digest(series.config)}-{RANDOM_SEED}"
    with_null = [m for m in measures if isinstance(m, FromModel) and m.random_init]
    wants_null = [m for m in with_sources(with_null) if isinstance(m, FromModel)]
    # The random model is the last shard's, which has the fewest checkpoints.
    null_todo = [m for m in wants_null if executor.key(m, null) not in store] if shard.is_last else []
    store.tidy()
    findings = [*series.findings, *unread]
    if null_todo or todo:
        for measure in {m for missing in todo.values() for m in missing if isinstance(m, Derive)}:
            measure.check()
        from_model = any(isinstance(m, FromModel) for missing in todo.values() for m in missing)
        live = executor.live(device, prefetch=prefetch) if null_todo or from_model else None
        findings += _compute(executor, todo, fingerprints, null_todo, null, live)
    # The other shards' come after the work: by now their own processes have noted most of them.
    others = [checkpoint for checkpoint in series if checkpoint not in mine]
    theirs, _ = _fingerprints(series, [checkpoint for checkpoint in others if checkpoint.is_here])
    owed = [c.name for c in others if c not in theirs or executor.missing(theirs[c])]
    if not shard.is_last and any(executor.key(m, null) not in store for m in wants_null):
        owed.append("the random model")
    keys = {
        m.name: {
            c.step: key
            for c, fingerprint in sorted((fingerprints | theirs).items(), key=lambda pair: pair[0].step)
            if (key := executor.key(m, fingerprint)) in store
        }
        for m in executor.measures
    }
    if not owed and not all(keys.values()):
        raise InputError("no checkpoint could be measured: " + "; ".join(f.detail for f in findings))
    null_keys = {m.name: executor.key(m, null) for m in wants_null}
    return Results(series, tuple(findings), tuple(owed), keys, null_keys, store)


def _fingerprints(
    series: Series, checkpoints: Sequence[Checkpoint]
) -> tuple[dict[Checkpoint, str], list[Finding]]:
    """What each checkpoint holds, and which ones cannot be read."""
    found, findings = {}, []
    with progress() as display:
        for checkpoint in display.track(checkpoints, description="identifying weights"):
            try:
                found[checkpoint] = series.fingerprints.of(checkpoint.path)
            except (InputError, BrokenWeightsError) as error:
                findings.append(Finding(checkpoint.step, "not measured", f"{checkpoint.name}: {error}"))
    return found, findings


def _compute(
    executor: Executor,
    todo: Mapping[Checkpoint, list[Measure[Any]]],
    fingerprints: Mapping[Checkpoint, str],
    null_todo: Sequence[FromModel[Any]],
    null: str,
    live: LiveModel | None,
) -> list[Finding]:
    """Measure what is to do; `live` is None where all of it is derived from what is stored."""
    findings = []
    reading = {c: [m for m in wanted if isinstance(m, FromModel)] for c, wanted in todo.items()}
    work: list[Sequence[Measure[Any]]] = [null_todo, *todo.values()]
    items = sum(len(executor.reading(measure).items) for wanted in work for measure in wanted)
    with progress() as display:
        task = display.add_task("measuring", total=items)

        def advance(done: int) -> None:
            display.advance(task, done)

        if null_todo and live:
            executor.run(live.at_random(RANDOM_SEED), null_todo, fingerprint=null, about={}, advance=advance)
        walk = live.walk([c for c in todo if reading[c]]) if live else iter(())
        for checkpoint, wanted in todo.items():
            display.update(task, description=f"measuring {checkpoint.name}")
            fingerprint = fingerprints[checkpoint]
            try:
                if reading[checkpoint]:
                    _, anatomy = next(walk)  # raises what is wrong with this checkpoint, and goes on after it
                    about = {"step": checkpoint.step}
                    executor.run(
                        anatomy, reading[checkpoint], fingerprint=fingerprint, about=about, advance=advance
                    )
            except (InputError, BrokenWeightsError) as error:
                findings.append(Finding(checkpoint.step, "not measured", str(error)))
                continue
            derived = [measure for measure in wanted if isinstance(measure, Derive)]
            executor.derive(derived, fingerprint=fingerprint, advance=advance)
    return findings
