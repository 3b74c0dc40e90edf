"""Held-out loss per language: mean negative log-likelihood in nats per token, and bits per byte.

    nll = -Σ log p(x_t | x_<t),   bits per byte = nll / (ln 2 · bytes of the predicted tokens)

A window's first token is not predicted, and neither it nor its bytes count. Eq. 2 of
arXiv 2412.07298 reads this loss on the new language; bits per byte is what compares tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.measure import Item, Observe, Observer
from babelscope.interp.streams import TextReading, TextStream
from babelscope.interp.token_loss import token_losses

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch


class LanguageLoss(Observe[TextReading]):
    """Held-out loss of every document.

    Parameters
    ----------
    stream
        Held-out text by language.
    """

    name: ClassVar[str] = "language_loss"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"final"})

    def __init__(self, stream: TextStream):
        self.stream = stream

    def observer(self, anatomy: Anatomy, reading: TextReading, shard: Sequence[Item]) -> Observer:
        return _WindowLosses(anatomy, [item.index for item in shard])

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        """Sums over each document's windows: `nll`, `tokens`, `bytes` by document."""
        windows = xr.concat(parts, dim="window").sortby("window")
        documents = reading.document.max() + 1

        def by_document(values: np.ndarray) -> tuple[str, np.ndarray]:
            return "document", np.bincount(reading.document, weights=values, minlength=documents)

        first = np.unique(reading.document, return_index=True)[1]
        names = np.array(reading.languages)[reading.language[first]]
        return xr.Dataset(
            {
                "nll": by_document(windows["nll"].to_numpy()),
                "tokens": by_document(windows["tokens"].to_numpy()),
                "bytes": by_document(reading.n_bytes),
            },
            coords={"language": ("document", names)},
        )


class _WindowLosses:
    def __init__(self, anatomy: Anatomy, windows: Sequence[int]):
        from babelscope.interp.lens import Readout

        self.readout = Readout(anatomy)
        self.row = {window: row for row, window in enumerate(windows)}
        self.nll = np.zeros(len(windows))
        self.tokens = np.zeros(len(windows), dtype=np.int64)

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        predicted = batch.real[:, 1:]  # (batch, position - 1)
        for item, own in zip(batch.items, token_losses(self.readout, tensor, batch, predicted), strict=True):
            self.nll[self.row[item.index]] = own.sum()
            self.tokens[self.row[item.index]] = len(own)

    def result(self) -> xr.Dataset:
        return xr.Dataset(
            {"nll": ("window", self.nll), "tokens": ("window", self.tokens)},
            coords={"window": list(self.row)},
        )
