"""The one extension point: what a measure is, and what it may ask for.

A measure declares its name, version, configuration, the stream it reads and its kind. The executor
(`analyses.executor`) groups measures by stream, makes one forward pass for all that observe it, cuts
the stream into shards, and stores what comes back. A measure never sees a file.

    observe    looks, in a forward pass that it shares    -> `Observe.observer`
    drive      runs the model itself: lets it write,
               changes what it computes, trains on it     -> `Drive.drive`
    derive     reads another measure's result only        -> `Derive.derive`

Results are combined from the shards' partial results even when nothing was interrupted: so a sweep
that was killed and resumed gives the same numbers as one that was not.

This module and the measures' own modules import without torch: a sweep with nothing to do costs
no more than reading its results.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch


@dataclass(frozen=True)
class Item:
    """One sequence of a reading, unpadded.

    Attributes
    ----------
    ids
        (position,) token ids.
    index
        Its place in the reading; results are keyed by it, so batches may come in any order.
    """

    ids: np.ndarray
    index: int


@dataclass(frozen=True)
class Reading:
    """A stream as one tokenizer reads it; streams add what their measures need to know."""

    items: Sequence[Item]


R = TypeVar("R", bound=Reading)
R_co = TypeVar("R_co", bound=Reading, covariant=True)


class Stream(Protocol[R_co]):
    """Text to be read: the same for every checkpoint.

    Attributes
    ----------
    key
        Hash of the content; streams with one key share a forward pass.
    """

    key: str

    def read(self, tokenizer: Any) -> R_co: ...


class Observer(Protocol):
    """What a measure accumulates over one shard."""

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        """Called inside the forward pass with (batch, position, width); keep little, copy nothing."""
        ...

    def result(self) -> xr.Dataset:
        """The shard's partial result."""
        ...


class Measure(ABC, Generic[R]):
    """What every measure declares; subclass `Observe`, `Drive` or `Derive`."""

    name: ClassVar[str]
    version: ClassVar[int]
    stream: Stream[R]

    @property
    def config(self) -> dict[str, Any]:
        """What, besides the stream, decides the result; part of the key it is stored under."""
        return {}


class FromModel(Measure[R]):
    """A measure that reads its stream with a model, shard by shard.

    Attributes
    ----------
    needs
        Whose result on the same model it uses; that is measured first and handed to `using`, and needs
        nothing itself.
    random_init
        Whether it is also wanted on a random model of the same shape, as a null.
    """

    needs: FromModel[Any] | None = None
    random_init: ClassVar[bool] = False

    def using(self, found: xr.Dataset) -> Self:
        """This measure with the result of what it needs."""
        return self

    @abstractmethod
    def combine(self, parts: Sequence[xr.Dataset], reading: R) -> xr.Dataset:
        """One result from the shards' partial results, in shard order."""


class Observe(FromModel[R]):
    """A measure that only looks."""

    sites: ClassVar[frozenset[str]]

    @abstractmethod
    def observer(self, anatomy: Anatomy, reading: R, shard: Sequence[Item]) -> Observer:
        """A fresh accumulator for these items."""


UNDIVIDED = sys.maxsize  # `shard_tokens` of a measure that is no sum over shards


class Drive(FromModel[R]):
    """A measure that needs the model to itself.

    Attributes
    ----------
    shard_tokens
        Tokens of the stream in one shard, about: what a kill may cost. `UNDIVIDED` for one shard of all.
    """

    shard_tokens: int = 1 << 13

    @abstractmethod
    def drive(self, anatomy: Anatomy, tokenizer: Any, reading: R, shard: Sequence[Item]) -> xr.Dataset:
        """The shard's partial result; the model is left as it was."""


class Derive(Measure[R]):
    """A measure of another measure's result: no model, no tokenizer.

    Attributes
    ----------
    source
        Whose result it reads; it is measured first.
    """

    source: FromModel[R]

    @abstractmethod
    def check(self) -> None:
        """Raise `InputError` if it cannot be derived here; asked before anything is computed."""

    @abstractmethod
    def derive(self, found: xr.Dataset, *, advance: Callable[[int], None]) -> xr.Dataset:
        """Its result from that of `source`; calls `advance(items of the stream)` on the way."""
