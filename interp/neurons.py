"""Counting, per language, how often every neuron fires; `lape` turns the counts into sets.

"Fires" is the gate's pre-activation > 0 (for an MLP without gate: its input layer's output). On
gated MLPs the neuron's output does not show this sign, since the up-projection multiplies in its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from babelscope.interp.neuron_totals import PIECE, ObservedTotals

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy
    from babelscope.interp.batching import Batch
    from babelscope.interp.neuron_totals import Contribution


class TransferringNeurons(ObservedTotals):
    """How often each neuron fires in each language: `total` counts positions."""

    name: ClassVar[str] = "transferring_neurons"
    version: ClassVar[int] = 2
    sites: ClassVar[frozenset[str]] = frozenset({"gate"})
    random_init: ClassVar[bool] = True
    dtype: ClassVar[type] = np.int64

    def contribution(self, anatomy: Anatomy) -> Contribution:
        return _Firing().rows


class _Firing:
    def __init__(self) -> None:
        self.memory: Tensor | None = None

    def rows(self, layer: int, tensor: Tensor, batch: Batch) -> Float[Tensor, "batch neuron"]:
        """At how many real positions each neuron fires."""
        import torch

        real = batch.real[:, None].float()  # (batch, 1, position)
        rows = max(1, PIECE // tensor[0].numel())
        pieces = zip(real.split(rows), tensor.split(rows), strict=True)
        return torch.cat([(mask @ self._fires(piece))[:, 0] for mask, piece in pieces])

    def _fires(self, tensor: Tensor) -> Tensor:
        """1.0 where a neuron fires, always in the same memory: new memory would cost more than the work."""
        import torch

        if self.memory is None or self.memory.numel() < tensor.numel():
            self.memory = torch.empty(tensor.numel(), device=tensor.device)
        return torch.gt(tensor, 0, out=self.memory[: tensor.numel()].view(tensor.shape))
