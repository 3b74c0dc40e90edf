"""Counting, per language, how often every neuron fires; `lape` turns the counts into sets.

"Fires" is the gate's pre-activation > 0 (for an MLP without gate: its input layer's output). On
gated MLPs the neuron's output does not show this sign, since the up-projection multiplies in its own.
Counts are 64-bit (within a batch sums of float32 ones, exact up to 2²⁴) and only real positions count.
They are kept in blocks of text: resampling blocks gives intervals, and giving blocks to languages at
random gives a null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.measure import Item, Observe, Observer
from babelscope.interp.streams import TextReading, TextStream

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch


BLOCKS = 8  # of text, per language
PIECE = 1 << 20  # neurons × positions looked at together: stays in the processor's cache


class TransferringNeurons(Observe[TextReading]):
    """How often each neuron fires in each language.

    Parameters
    ----------
    stream
        Held-out text; the same number of tokens per language, which `TextStream` sees to.
    """

    name: ClassVar[str] = "transferring_neurons"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"gate"})

    def __init__(self, stream: TextStream):
        self.stream = stream

    @property
    def config(self) -> dict[str, Any]:
        return {"blocks": BLOCKS}

    def observer(self, anatomy: Anatomy, reading: TextReading, shard: Sequence[Item]) -> Observer:
        return _FiringCounts(anatomy, reading)

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        """Sums over shards: `positive` (language, block, layer, neuron) and `tokens` (language, block)."""
        return xr.concat(parts, dim="shard").sum("shard")


class _FiringCounts:
    def __init__(self, anatomy: Anatomy, reading: TextReading):
        self.groups = (len(reading.languages), BLOCKS)
        # Consecutive windows share a block, so that documents stay together as far as they can.
        order = np.concatenate([np.arange(n) / n for n in np.bincount(reading.language)])
        self.group_of = reading.language * BLOCKS + (order * BLOCKS).astype(int)  # (window,)
        cells = len(reading.languages) * BLOCKS
        self.languages = reading.languages
        self.positive = np.zeros((cells, anatomy.n_layers, anatomy.d_neurons), dtype=np.int64)
        self.tokens = np.zeros(cells, dtype=np.int64)
        self.memory: Tensor | None = None

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        of = self.group_of[[item.index for item in batch.items]]
        belongs = torch.as_tensor(of == np.arange(len(self.tokens))[:, None], device=tensor.device).float()
        real = batch.real[:, None].float()  # (batch, 1, position)
        rows = max(1, PIECE // tensor[0].numel())
        pieces = zip(real.split(rows), tensor.split(rows), strict=True)
        fired = torch.cat([(mask @ self._fires(piece))[:, 0] for mask, piece in pieces])  # (batch, neuron)
        self.positive[:, layer] += (belongs @ fired).long().cpu().numpy()  # (group, neuron)
        if layer == 0:
            self.tokens += (belongs @ real.sum((1, 2))).long().cpu().numpy()

    def _fires(self, tensor: Tensor) -> Tensor:
        """1.0 where a neuron fires, always in the same memory: new memory would cost more than the work."""
        import torch

        if self.memory is None or self.memory.numel() < tensor.numel():
            self.memory = torch.empty(tensor.numel(), device=tensor.device)
        return torch.gt(tensor, 0, out=self.memory[: tensor.numel()].view(tensor.shape))

    def result(self) -> xr.Dataset:
        positive = self.positive.reshape(*self.groups, *self.positive.shape[1:])
        return xr.Dataset(
            {
                "positive": (("language", "block", "layer", "neuron"), positive),
                "tokens": (("language", "block"), self.tokens.reshape(self.groups)),
            },
            coords={"language": list(self.languages)},
        )
