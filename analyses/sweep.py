"""The executor: every wanted measure on every checkpoint of a series, each computed once.

    for each checkpoint: swap the weights in
      for each group of measures that observe one stream: one forward pass for the group
      for each measure that generates: its own pass

Streams are cut into shards of a fixed number of tokens, each stored as it is finished: a killed sweep
resumes at the next shard. What is stored already is never computed again, and a sweep with nothing to
do reads no weights and does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import xarray as xr

from babelscope.analyses.sharding import WHOLE, Shard, own_gpu
from babelscope.analyses.store import Key, Store
from babelscope.checkpoints.series import Finding, Series
from babelscope.checkpoints.weights import BrokenWeightsError
from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.core.progress import progress
from babelscope.interp.families import custom_names
from babelscope.interp.measure import Generate, Item, Measure, Observe, Reading

if TYPE_CHECKING:
    from babelscope.checkpoints.live import LiveModel
    from babelscope.interp.anatomy import Anatomy

BATCH_TOKENS = 1 << 12
# What a kill may cost: tokens of a shard that is observed, and of the prompts of one that is answered.
OBSERVED, GENERATED = 1 << 15, 1 << 13
RANDOM_SEED = 0  # of the random model that is a null
DTYPES = ("float32", "bfloat16")


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


class Executor:
    """Computes what is missing for one model at a time.

    Parameters
    ----------
    store
        Where results go.
    measures
        What is wanted; names must differ.
    series
        Whose tokenizer reads the streams; it and its architecture are parts of every key.
    dtype
        In which the model runs: float32 or bfloat16.
    """

    def __init__(
        self,
        store: Store,
        measures: Sequence[Measure[Any]],
        series: Series,
        *,
        dtype: str = "float32",
    ):
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: models run in {' or '.join(DTYPES)}")
        names = [measure.name for measure in measures]
        if len(set(names)) < len(names):
            raise InputError(f"measures must have different names; got {names}")
        self.store = store
        self.measures = measures
        self.series = series
        self.dtype = dtype
        self._readings: dict[str, Reading] = {}

    def key(self, measure: Measure[Any], fingerprint: str) -> Key:
        return Key(
            fingerprint,
            measure.name,
            measure.version,
            digest(measure.config | custom_names(self.series.config.get("model_type", ""))),
            measure.stream.key,
            self.series.tokenizer_hash,
            self.dtype,
        )

    def missing(self, fingerprint: str) -> list[Measure[Any]]:
        """Measures without a stored result for these weights."""
        return [m for m in self.measures if self.key(m, fingerprint) not in self.store]

    def live(self, device: str | None) -> LiveModel:
        """The model that the series' weights are swapped through; by default on this process's own GPU."""
        import torch

        from babelscope.checkpoints.live import LiveModel

        return LiveModel(self.series, dtype=getattr(torch, self.dtype), device=device or own_gpu())

    def reading(self, measure: Measure[Any]) -> Reading:
        """The measure's stream as this series' tokenizer reads it; made once."""
        if measure.stream.key not in self._readings:
            self._readings[measure.stream.key] = measure.stream.read(self.series.tokenizer)
        return self._readings[measure.stream.key]

    def run(
        self,
        anatomy: Anatomy,
        measures: Sequence[Measure[Any]],
        *,
        fingerprint: str,
        about: Mapping[str, int | float | str],
        advance: Callable[[int], None],
    ) -> None:
        """Compute and store `measures` for one model, calling `advance(items)` on the way."""
        import torch

        from babelscope.interp.lens import check_readout

        items = self.reading(measures[0]).items
        shortest = torch.as_tensor(min(items, key=lambda item: len(item.ids)).ids, device=anatomy.device)
        about = dict(about) | {"readout_error": check_readout(anatomy, shortest[None])}
        ordered = sorted(measures, key=_group)
        for _, group in groupby(ordered, key=_group):
            self._group(anatomy, list(group), fingerprint=fingerprint, about=about, advance=advance)

    def _group(
        self,
        anatomy: Anatomy,
        group: Sequence[Measure[Any]],
        *,
        fingerprint: str,
        about: Mapping[str, int | float | str],
        advance: Callable[[int], None],
    ) -> None:
        reading = self.reading(group[0])
        keys = {measure.name: self.key(measure, fingerprint) for measure in group}
        size = OBSERVED if isinstance(group[0], Observe) else GENERATED
        parts: dict[str, list[xr.Dataset]] = {measure.name: [] for measure in group}
        group = list(group)
        for number, shard in enumerate(shards(reading.items, tokens=size)):
            todo = [m for m in group if not self.store.has_part(keys[m.name], (size, number))]
            for name, part in self.compute(anatomy, todo, reading, shard).items():
                self.store.save_part(keys[name], (size, number), part)
            advance(len(shard) * len(group))
            for measure in list(group):
                # Read back even if just computed: a resumed sweep then combines the very same parts.
                try:
                    parts[measure.name].append(self.store.load_part(keys[measure.name], (size, number)))
                except KeyError:
                    # Parts go when their whole is there: another process has finished this result.
                    if keys[measure.name] not in self.store:
                        raise
                    self.store.drop_parts(keys[measure.name])
                    group.remove(measure)
        for measure in group:
            whole = measure.combine(parts[measure.name], reading)
            self.store.save(keys[measure.name], whole, about=about)

    def compute(
        self, anatomy: Anatomy, measures: Sequence[Measure[Any]], reading: Reading, shard: Sequence[Item]
    ) -> dict[str, xr.Dataset]:
        """Partial results of measures that read one stream, for these items; nothing is stored."""
        from babelscope.interp.observe import observe

        observing = [m for m in measures if isinstance(m, Observe)]
        observers = {m.name: (m.sites, m.observer(anatomy, reading, shard)) for m in observing}
        observe(anatomy, shard, list(observers.values()), tokens=BATCH_TOKENS)
        results = {name: observer.result() for name, (_, observer) in observers.items()}
        for measure in measures:
            if isinstance(measure, Generate):
                results[measure.name] = measure.generate(anatomy, self.series.tokenizer, reading, shard)
        return results


def shards(items: Sequence[Item], *, tokens: int) -> list[Sequence[Item]]:
    """Consecutive items, about `tokens` tokens each."""
    cut: list[list[Item]] = [[]]
    held = 0
    for item in items:
        if cut[-1] and held + len(item.ids) > tokens:
            cut.append([])
            held = 0
        cut[-1].append(item)
        held += len(item.ids)
    return list(cut)


def sweep(
    series: Series,
    measures: Sequence[Measure[Any]],
    *,
    store: Store | None = None,
    device: str | None = None,
    dtype: str = "float32",
    shard: Shard = WHOLE,
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

    Raises
    ------
    InputError
        If no checkpoint could be measured.
    """
    store = store or Store(series.state / "store")
    executor = Executor(store, measures, series, dtype=dtype)
    mine = shard.of(series.checkpoints)
    fingerprints = {checkpoint: series.fingerprints.of(checkpoint.path) for checkpoint in mine}
    missing = {c: executor.missing(fingerprint) for c, fingerprint in fingerprints.items()}
    todo = {checkpoint: measures for checkpoint, measures in missing.items() if measures}
    null = f"random-{digest(series.config)}-{RANDOM_SEED}"
    wants_null = [m for m in measures if isinstance(m, Observe) and m.random_init]
    # The random model is the last shard's, which has the fewest checkpoints.
    null_todo = [m for m in wants_null if executor.key(m, null) not in store] if shard.is_last else []
    store.tidy()
    findings = list(series.findings)
    if null_todo or todo:
        findings += _compute(executor, todo, fingerprints, null_todo, null, device)
    # The other shards' come after the work: by now their own processes have noted most of them.
    fingerprints = {checkpoint: series.fingerprints.of(checkpoint.path) for checkpoint in series}
    owed = [c.name for c in series if c not in missing and executor.missing(fingerprints[c])]
    if not shard.is_last and any(executor.key(m, null) not in store for m in wants_null):
        owed.append("the random model")
    keys = {
        m.name: {
            c.step: key
            for c, fingerprint in fingerprints.items()
            if (key := executor.key(m, fingerprint)) in store
        }
        for m in measures
    }
    if not owed and not all(keys.values()):
        raise InputError("no checkpoint could be measured: " + "; ".join(f.detail for f in findings))
    null_keys = {m.name: executor.key(m, null) for m in wants_null}
    return Results(series, tuple(findings), tuple(owed), keys, null_keys, store)


def _compute(
    executor: Executor,
    todo: Mapping[Any, list[Measure[Any]]],
    fingerprints: Mapping[Any, str],
    null_todo: Sequence[Measure[Any]],
    null: str,
    device: str | None,
) -> list[Finding]:
    live = executor.live(device)
    findings = []
    work: list[Sequence[Measure[Any]]] = [null_todo, *todo.values()]
    items = sum(len(executor.reading(measure).items) for wanted in work for measure in wanted)
    with progress() as display:
        task = display.add_task("measuring", total=items)

        def advance(done: int) -> None:
            display.advance(task, done)

        if null_todo:
            executor.run(live.at_random(RANDOM_SEED), null_todo, fingerprint=null, about={}, advance=advance)
        walk = live.walk(todo)
        for checkpoint, wanted in todo.items():
            display.update(task, description=f"measuring {checkpoint.name}")
            try:
                _, anatomy = next(walk)  # raises what is wrong with this checkpoint, and goes on after it
                about = {"step": checkpoint.step}
                executor.run(
                    anatomy, wanted, fingerprint=fingerprints[checkpoint], about=about, advance=advance
                )
            except (InputError, BrokenWeightsError) as error:
                findings.append(Finding(checkpoint.step, "not measured", str(error)))
    return findings


def _group(measure: Measure[Any]) -> tuple[str, str]:
    """Measures that share a pass: those that observe one stream; one that generates is alone."""
    return measure.stream.key, "" if isinstance(measure, Observe) else measure.name
