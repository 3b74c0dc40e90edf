"""How likely a text is after a context: graded scores where a model is too small to solve anything.

    nll(y | x) = −Σ_t log p(y_t | x, y_<t)      bits per byte = nll / (ln 2 · bytes of y)

Context and text are tokenised together, as the model would meet them; a token that holds the end of one and
the beginning of the other belongs to the text. Asked of right solutions, of minimally broken ones, and of
solutions after another language's, it gives the three scores of `babelscope.analyses.grades`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.core.errors import InputError
from babelscope.core.files import digest
from babelscope.interp.measure import Item, Observe, Observer, Reading
from babelscope.interp.token_loss import token_losses

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch


@dataclass(frozen=True)
class Continuation:
    """A text after a context.

    Attributes
    ----------
    context, text
        Neither may be empty.
    id, language
        The problem it belongs to, and the language of `text`.
    role
        What is asked with it: "solution", "broken", "translation", …
    source
        The language that is translated from; empty otherwise.
    """

    context: str
    text: str
    id: str
    language: str
    role: str
    source: str = ""


@dataclass(frozen=True)
class ContinuationReading(Reading):
    """Continuations as one tokenizer reads them.

    Attributes
    ----------
    asked
        The continuation behind each item.
    first
        (item,) position of the first token of the text.
    n_bytes
        (item,) UTF-8 bytes of the text.
    dropped
        What does not fit the model's context.
    """

    asked: tuple[Continuation, ...]
    first: np.ndarray
    n_bytes: np.ndarray
    dropped: tuple[str, ...]


class ContinuationStream:
    """Continuations to be read.

    Parameters
    ----------
    asked
        What is read.
    context
        Tokens that the model takes; longer continuations are dropped, whole problems at a time: scores
        compare the same problems.
    """

    def __init__(self, asked: Sequence[Continuation], *, context: int):
        if not asked:
            raise InputError("there are no solutions to read: these problems come without")
        self.asked = tuple(asked)
        self.context = context
        self.key = digest([[vars(one) for one in self.asked], context])

    def read(self, tokenizer: Any) -> ContinuationReading:
        """Tokenise.

        Raises
        ------
        InputError
            If none fits the context.
        """
        texts = [one.context + one.text for one in self.asked]
        coded = tokenizer(texts, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        too_long = {
            one.id for one, ids in zip(self.asked, coded["input_ids"], strict=True) if len(ids) > self.context
        }
        items, asked, first = [], [], []
        for one, ids, offsets in zip(self.asked, coded["input_ids"], coded["offset_mapping"], strict=True):
            if one.id not in too_long:
                start = next(place for place, (_, end) in enumerate(offsets) if end > len(one.context))
                first.append(max(start, 1))  # nothing predicts a first token
                items.append(Item(np.asarray(ids, dtype=np.int64), len(items)))
                asked.append(one)
        if not items:
            raise InputError(
                f"all {len(too_long)} problems with their solutions are longer than the model's"
                f" {self.context} tokens"
            )
        dropped = (f"{name}: longer than the model's {self.context} tokens" for name in sorted(too_long))
        sizes = np.array([len(one.text.encode()) for one in asked])
        return ContinuationReading(items, tuple(asked), np.array(first), sizes, tuple(dropped))


class ContinuationLoss(Observe[ContinuationReading]):
    """Negative log-likelihood of every continuation.

    Result, by `text`: `nll` in nats, `tokens`, `bytes`; coordinates id, language, role, source.

    Parameters
    ----------
    stream
        What is read.
    """

    name: ClassVar[str] = "continuation_loss"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"final"})

    def __init__(self, stream: ContinuationStream):
        self.stream = stream

    def observer(self, anatomy: Anatomy, reading: ContinuationReading, shard: Sequence[Item]) -> Observer:
        return _TextLosses(anatomy, reading, [item.index for item in shard])

    def combine(self, parts: Sequence[xr.Dataset], reading: ContinuationReading) -> xr.Dataset:
        whole = xr.concat(parts, dim="text").sortby("text")
        asked = [reading.asked[index] for index in whole["text"].to_numpy()]
        labels = {
            name: ("text", [getattr(one, name) for one in asked])
            for name in ("id", "language", "role", "source")
        }
        lengths = [len(item.ids) for item in reading.items]
        return whole.assign(
            tokens=("text", np.array(lengths) - reading.first), bytes=("text", reading.n_bytes)
        ).assign_coords(labels)


class _TextLosses:
    def __init__(self, anatomy: Anatomy, reading: ContinuationReading, indices: Sequence[int]):
        from babelscope.interp.lens import Readout

        self.readout = Readout(anatomy)
        self.first = reading.first
        self.nll = dict.fromkeys(indices, 0.0)

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        wanted = batch.real[:, 1:].clone()  # (batch, position - 1): whether the token after is of the text
        for row, item in enumerate(batch.items):
            wanted[row, : self.first[item.index] - 1] = False
        losses = token_losses(self.readout, tensor, batch, wanted)
        for item, own in zip(batch.items, losses, strict=True):
            self.nll[item.index] = float(own.sum())

    def result(self) -> xr.Dataset:
        return xr.Dataset({"nll": ("text", list(self.nll.values()))}, coords={"text": list(self.nll)})
