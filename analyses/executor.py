"""Every wanted measure of one model, each computed once, shard by shard.

    for each group of measures that observe one stream: one forward pass for the group
    for each measure that drives the model itself: its own pass
    for each measure that is derived: the stored result that it reads, and no model

Streams are cut into shards of a fixed number of tokens, each stored as it is finished: what was killed
resumes at the next shard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

import xarray as xr

from babelscope.analyses.sharding import own_gpu
from babelscope.analyses.store import Key, Store
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.interp.families import custom_names
from babelscope.interp.measure import Derive, Drive, FromModel, Item, Measure, Observe, Reading

if TYPE_CHECKING:
    from babelscope.checkpoints.live import LiveModel
    from babelscope.interp.anatomy import Anatomy

BATCH_TOKENS = 1 << 12
OBSERVED = 1 << 15  # tokens of a shard that is observed: what a kill may cost
DTYPES = ("float32", "bfloat16")


class Executor:
    """Computes what is missing for one model at a time.

    Parameters
    ----------
    store
        Where results go.
    measures
        What is wanted; names must differ. What these read or need is measured too.
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
        require_dtype(dtype)
        names = [measure.name for measure in measures]
        if len(set(names)) < len(names):
            raise InputError(f"measures must have different names; got {names}")
        self.store = store
        self.measures = with_sources(measures)
        self.series = series
        self.dtype = dtype
        self._readings: dict[str, Reading] = {}

    def key(self, measure: Measure[Any], fingerprint: str) -> Key:
        config = measure.config | custom_names(self.series.config.get("model_type", ""))
        if handed := _handed(measure):  # what it is handed decides its result too, down to its version
            config["needs"] = asdict(self.key(handed, fingerprint))
        return Key(
            fingerprint,
            measure.name,
            measure.version,
            digest(config),
            measure.stream.key,
            self.series.tokenizer_hash,
            self.dtype,
        )

    def missing(self, fingerprint: str) -> list[Measure[Any]]:
        """Measures without a stored result for these weights."""
        return [m for m in self.measures if self.key(m, fingerprint) not in self.store]

    def live(self, device: str | None, *, prefetch: bool) -> LiveModel:
        """The model that the series' weights are swapped through; by default on this process's own GPU."""
        import torch

        from babelscope.checkpoints.live import LiveModel

        return LiveModel(
            self.series, dtype=getattr(torch, self.dtype), device=device or own_gpu(), prefetch=prefetch
        )

    def reading(self, measure: Measure[Any]) -> Reading:
        """The measure's stream as this series' tokenizer reads it; made once."""
        if measure.stream.key not in self._readings:
            self._readings[measure.stream.key] = measure.stream.read(self.series.tokenizer)
        return self._readings[measure.stream.key]

    def run(
        self,
        anatomy: Anatomy,
        measures: Sequence[FromModel[Any]],
        *,
        fingerprint: str,
        about: Mapping[str, int | float | str],
        advance: Callable[[int], None],
    ) -> None:
        """Compute and store what `measures` say of one model, calling `advance(items)` on the way."""
        import torch

        from babelscope.interp.lens import check_readout

        items = self.reading(measures[0]).items
        shortest = torch.as_tensor(min(items, key=lambda item: len(item.ids)).ids, device=anatomy.device)
        about = dict(about) | {"readout_error": check_readout(anatomy, shortest[None])}
        for _, found in groupby(sorted(measures, key=_group), key=_group):
            group = [
                m.using(self.store.load(self.key(m.needs, fingerprint))) if m.needs else m for m in found
            ]
            self._group(anatomy, group, fingerprint=fingerprint, about=about, advance=advance)

    def derive(
        self, measures: Sequence[Derive[Any]], *, fingerprint: str, advance: Callable[[int], None]
    ) -> None:
        """Compute and store measures of what is stored already; what they read must be."""
        for measure in measures:
            found = self.store.load(self.key(measure.source, fingerprint))
            about = {name: found.attrs[name] for name in found.attrs if name in ("step", "readout_error")}
            result = measure.derive(found, advance=advance)
            self.store.save(self.key(measure, fingerprint), result, about=about)

    def _group(
        self,
        anatomy: Anatomy,
        group: Sequence[FromModel[Any]],
        *,
        fingerprint: str,
        about: Mapping[str, int | float | str],
        advance: Callable[[int], None],
    ) -> None:
        reading = self.reading(group[0])
        keys = {measure.name: self.key(measure, fingerprint) for measure in group}
        size = group[0].shard_tokens if isinstance(group[0], Drive) else OBSERVED
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
        self, anatomy: Anatomy, measures: Sequence[FromModel[Any]], reading: Reading, shard: Sequence[Item]
    ) -> dict[str, xr.Dataset]:
        """Partial results of measures that read one stream, for these items; nothing is stored."""
        from babelscope.interp.observe import observe

        observing = [m for m in measures if isinstance(m, Observe)]
        observers = {m.name: (m.sites, m.observer(anatomy, reading, shard)) for m in observing}
        observe(anatomy, shard, list(observers.values()), tokens=BATCH_TOKENS)
        results = {name: observer.result() for name, (_, observer) in observers.items()}
        for measure in measures:
            if isinstance(measure, Drive):
                results[measure.name] = measure.drive(anatomy, self.series.tokenizer, reading, shard)
        return results


def with_sources(measures: Sequence[Measure[Any]]) -> list[Measure[Any]]:
    """`measures`, and before those that read or need another's result that other.

    Raises
    ------
    InputError
        If two of one name would be measured.
    """
    found: dict[str, Measure[Any]] = {}

    def add(measure: Measure[Any]) -> None:
        if handed := _handed(measure):
            add(handed)
        same = found.setdefault(measure.name, measure)
        if (same.config, same.stream.key) != (measure.config, measure.stream.key):
            raise InputError(
                f"two different {measure.name!r} are wanted, one of them by another measure; measure them in "
                "two sweeps"
            )

    for measure in measures:
        add(measure)
    return list(found.values())


def _handed(measure: Measure[Any]) -> FromModel[Any] | None:
    """Whose result a measure reads or needs, if any."""
    if isinstance(measure, Derive):
        return measure.source
    return measure.needs if isinstance(measure, FromModel) else None


def require_dtype(dtype: str) -> None:
    """Refuse what models do not run in."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r}: models run in {' or '.join(DTYPES)}")


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


def _group(measure: FromModel[Any]) -> tuple[bool, str, str]:
    """Measures that share a pass: those that observe one stream; what others need comes first."""
    return measure.needs is not None, measure.stream.key, "" if isinstance(measure, Observe) else measure.name
