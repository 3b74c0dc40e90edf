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

from babelscope.analyses.store import Key, Store
from babelscope.checkpoints.series import Finding, Series
from babelscope.checkpoints.weights import BrokenWeightsError
from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.core.progress import progress
from babelscope.interp.measure import Generate, Item, Measure, Observe, Reading

if TYPE_CHECKING:
    from babelscope.interp.anatomy import Anatomy

BATCH_TOKENS = 1 << 12
# What a kill may cost: tokens of a shard that is observed, and of the prompts of one that is answered.
OBSERVED, GENERATED = 1 << 15, 1 << 13
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
    """

    series: Series
    findings: tuple[Finding, ...]
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
    tokenizer
        Called once, when a stream is first read.
    tokenizer_hash, dtype
        Parts of every key.
    """

    def __init__(
        self,
        store: Store,
        measures: Sequence[Measure[Any]],
        *,
        tokenizer: Callable[[], Any],
        tokenizer_hash: str,
        dtype: str = "float32",
    ):
        names = [measure.name for measure in measures]
        if len(set(names)) < len(names):
            raise InputError(f"measures must have different names; got {names}")
        self.store = store
        self.measures = measures
        self._tokenizer = tokenizer
        self._tokenizer_hash = tokenizer_hash
        self._dtype = dtype
        self._readings: dict[str, Reading] = {}

    def key(self, measure: Measure[Any], fingerprint: str) -> Key:
        return Key(
            fingerprint,
            measure.name,
            measure.version,
            digest(measure.config),
            measure.stream.key,
            self._tokenizer_hash,
            self._dtype,
        )

    def missing(self, fingerprint: str) -> list[Measure[Any]]:
        """Measures without a stored result for these weights."""
        return [m for m in self.measures if self.key(m, fingerprint) not in self.store]

    def reading(self, measure: Measure[Any]) -> Reading:
        """The measure's stream as this series' tokenizer reads it; made once."""
        if measure.stream.key not in self._readings:
            self._readings[measure.stream.key] = measure.stream.read(self._tokenizer())
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
        for number, shard in enumerate(shards(reading.items, tokens=size)):
            todo = [m for m in group if not self.store.has_part(keys[m.name], (size, number))]
            for name, part in self.compute(anatomy, todo, reading, shard).items():
                self.store.save_part(keys[name], (size, number), part)
            for measure in group:
                # Read back even if just computed: a resumed sweep then combines the very same parts.
                parts[measure.name].append(self.store.load_part(keys[measure.name], (size, number)))
            advance(len(shard) * len(group))
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
                results[measure.name] = measure.generate(anatomy, self._tokenizer(), reading, shard)
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
        Where the model runs; default: the first GPU if there is one.

    Raises
    ------
    InputError
        If no checkpoint could be measured.
    """
    store = store or Store(series.state / "store")
    executor = Executor(
        store, measures, tokenizer=lambda: series.tokenizer, tokenizer_hash=series.tokenizer_hash
    )
    fingerprints = {checkpoint: series.fingerprints.of(checkpoint.path) for checkpoint in series}
    missing = {c: executor.missing(fingerprint) for c, fingerprint in fingerprints.items()}
    todo = {checkpoint: measures for checkpoint, measures in missing.items() if measures}
    null = f"random-{digest(series.config)}-{RANDOM_SEED}"
    wants_null = [m for m in measures if isinstance(m, Observe) and m.random_init]
    null_todo = [m for m in wants_null if executor.key(m, null) not in store]
    store.tidy()
    findings = list(series.findings)
    if null_todo or todo:
        findings += _compute(series, executor, todo, fingerprints, null_todo, null, device)
    keys = {
        m.name: {
            c.step: key
            for c, fingerprint in fingerprints.items()
            if (key := executor.key(m, fingerprint)) in store
        }
        for m in measures
    }
    if not all(keys.values()):
        raise InputError("no checkpoint could be measured: " + "; ".join(f.detail for f in findings))
    return Results(series, tuple(findings), keys, {m.name: executor.key(m, null) for m in wants_null}, store)


def _compute(
    series: Series,
    executor: Executor,
    todo: Mapping[Any, list[Measure[Any]]],
    fingerprints: Mapping[Any, str],
    null_todo: Sequence[Measure[Any]],
    null: str,
    device: str | None,
) -> list[Finding]:
    from babelscope.checkpoints.live import LiveModel

    live = LiveModel(series, device=device)
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
            display.update(task, description=f"measuring {checkpoint.path.name}")
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
