"""What every score of neurons is made from: sums over positions, per neuron, language and block of text.

    total[language, block, layer, neuron] = Σ over the block's positions of what one position contributes
    tokens[language, block]               = how many positions that are

What a position contributes is the method's own: 1 where the neuron fires (`neurons`), the square of what
it writes (`plnd`), its activation times the gradient (`attribution`). A score is a function of such totals
alone, so that everything else is written once: intervals resample blocks, and the null gives blocks to
languages at random (`selection`). Only real positions count.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.measure import FromModel, Item, Observe, Observer
from babelscope.interp.streams import TextReading, TextStream

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch

    Contribution = Callable[[int, Tensor, Batch], Float[Tensor, "batch neuron"]]  # of a layer's tensor

BLOCKS = 8  # of text, per language
PIECE = 1 << 20  # neurons × positions looked at together: stays in the processor's cache


class TextTotals(FromModel[TextReading]):
    """A measure of running text whose result is `total` and `tokens`.

    Parameters
    ----------
    stream
        Held-out text; the same number of tokens per language, which `TextStream` sees to.
    """

    def __init__(self, stream: TextStream):
        self.stream = stream

    @property
    def config(self) -> dict[str, Any]:
        return {"blocks": BLOCKS}

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        """Sums over shards: `total` (language, block, layer, neuron) and `tokens` (language, block)."""
        return xr.concat(parts, dim="shard").sum("shard")


class Totals:
    """Running sums of one shard, 64-bit: exact for counts up to 2⁶³, however many came before.

    Parameters
    ----------
    reading
        Whose languages and blocks the sums are kept by.
    layers, neurons
        How many of each.
    dtype
        int64 for counts; float64 for what is no whole number.
    """

    def __init__(self, reading: TextReading, *, layers: int, neurons: int, dtype: type = np.float64):
        self.languages = reading.languages
        # Consecutive windows share a block, so that documents stay together as far as they can.
        order = np.concatenate([np.arange(n) / n for n in np.bincount(reading.language)])
        self.group_of = reading.language * BLOCKS + (order * BLOCKS).astype(int)  # (window,)
        groups = len(reading.languages) * BLOCKS
        self.total = np.zeros((groups, layers, neurons), dtype=dtype)
        self.tokens = np.zeros(groups, dtype=np.int64)

    def add(self, layer: int, rows: Float[Tensor, "batch neuron"], batch: Batch) -> None:
        """Add what each row of a batch contributes at one layer.

        Rows are summed in float32, in which whole numbers are exact up to 2²⁴: more than a batch has tokens.
        """
        belongs = self._belongs(batch)
        sums = belongs.to(rows) @ rows  # (group, neuron)
        if self.total.dtype == np.int64:
            sums = sums.long()
        self.total[:, layer] += sums.cpu().numpy()
        if layer == 0:
            self.tokens += (belongs.long() @ batch.real.sum(-1).to(belongs.device)).cpu().numpy()

    def _belongs(self, batch: Batch) -> Bool[Tensor, "group batch"]:
        import torch

        of = self.group_of[[item.index for item in batch.items]]
        return torch.as_tensor(of == np.arange(len(self.tokens))[:, None], device=batch.real.device)

    def result(self) -> xr.Dataset:
        """`total` and `tokens`, as `TextTotals.combine` describes them."""
        groups = (len(self.languages), BLOCKS)
        return xr.Dataset(
            {
                "total": (
                    ("language", "block", "layer", "neuron"),
                    self.total.reshape(*groups, *self.total.shape[1:]),
                ),
                "tokens": (("language", "block"), self.tokens.reshape(groups)),
            },
            coords={"language": list(self.languages)},
        )


class ObservedTotals(TextTotals, Observe[TextReading]):
    """Totals of what can be seen in a shared forward pass."""

    dtype: ClassVar[type] = np.float64

    @abstractmethod
    def contribution(self, anatomy: Anatomy) -> Contribution:
        """What makes each row's contribution of a layer's tensor."""

    def neurons(self, anatomy: Anatomy) -> int:
        """How many a layer has."""
        return anatomy.d_neurons

    def observer(self, anatomy: Anatomy, reading: TextReading, shard: Sequence[Item]) -> Observer:
        totals = Totals(reading, layers=anatomy.n_layers, neurons=self.neurons(anatomy), dtype=self.dtype)
        return _Observed(totals, self.contribution(anatomy))


@dataclass(frozen=True)
class _Observed:
    totals: Totals
    contribution: Contribution

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        self.totals.add(layer, self.contribution(layer, tensor, batch), batch)

    def result(self) -> xr.Dataset:
        return self.totals.result()
