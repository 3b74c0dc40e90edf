"""Where each neuron is largest: its extreme outputs in held-out text, per language.

    size[window] = max over the window's positions of |output|        the TOP largest windows are kept

A neuron's output is the input of the down-projection. Of one window only its largest position is kept, so
that one odd stretch of text does not fill the list. A window's first position is never looked at: it has no
context, and where a model parks attention its values are thousands of times the others'.

These are a neuron's extremes and not its typical use; what it does on most tokens is for the totals to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.measure import Item, Observe, Observer
from babelscope.interp.neuron_totals import PIECE
from babelscope.interp.prompt_texts import NOTHING
from babelscope.interp.streams import TextReading, TextStream

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch

TOP = 3  # windows, per neuron and language


class TopActivations(Observe[TextReading]):
    """The windows in which each neuron's output is largest, by language.

    Result, by language, layer, neuron and rank: `value` (the output, with its sign), `window` and `position`
    (in the window); NaN and NOTHING where a language has fewer windows. The text goes with it: `token` (text,
    offset) are the token ids of every window, NOTHING after its end.

    Parameters
    ----------
    stream
        Held-out text by language.
    """

    name: ClassVar[str] = "top_activations"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"neuron"})

    def __init__(self, stream: TextStream):
        self.stream = stream

    @property
    def config(self) -> dict[str, Any]:
        return {"top": TOP}

    def observer(self, anatomy: Anatomy, reading: TextReading, shard: Sequence[Item]) -> Observer:
        return _Largest(reading, layers=anatomy.n_layers, neurons=anatomy.d_neurons)

    def combine(self, parts: Sequence[xr.Dataset], reading: TextReading) -> xr.Dataset:
        found = xr.concat(parts, dim="rank")
        size = np.nan_to_num(np.abs(found["value"].to_numpy()), nan=-1)
        order = xr.DataArray(np.argsort(-size, axis=-1, kind="stable")[..., :TOP], dims=found["value"].dims)
        longest = max(len(item.ids) for item in reading.items)
        token = np.full((len(reading.items), longest), NOTHING, np.int32)
        for item in reading.items:
            token[item.index, : len(item.ids)] = item.ids
        return found.isel(rank=order).assign(token=(("text", "offset"), token))


class _Largest:
    def __init__(self, reading: TextReading, *, layers: int, neurons: int):
        import torch

        self.languages = reading.languages
        self.language = reading.language
        shape = (len(reading.languages), layers, TOP, neurons)
        # On the device of the first tensor from then on: waiting for the GPU at each layer would cost more.
        self.value = torch.full(shape, torch.nan)
        self.window = torch.full(shape, NOTHING, dtype=torch.int32)
        self.position = torch.full(shape, NOTHING, dtype=torch.int32)

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        names = ("value", "window", "position")
        if self.value.device != tensor.device:
            for name in names:
                setattr(self, name, getattr(self, name).to(tensor.device))
        at, value = _largest(tensor, batch)
        window = torch.tensor([item.index for item in batch.items], dtype=torch.int32, device=tensor.device)
        spoken = self.language[[item.index for item in batch.items]]
        for which in np.unique(spoken).tolist():
            rows = torch.as_tensor(np.flatnonzero(spoken == which), device=tensor.device)
            new = (value[rows], window[rows, None].expand(-1, tensor.shape[-1]), at[rows])
            kept = [getattr(self, name)[which, layer] for name in names]
            both = [torch.cat(pair) for pair in zip(kept, new, strict=True)]
            size = both[0].abs().nan_to_num(nan=-1)
            order = size.sort(dim=0, descending=True, stable=True).indices[:TOP]
            for was, candidates in zip(kept, both, strict=True):
                was.copy_(candidates.gather(0, order))

    def result(self) -> xr.Dataset:
        dims = ("language", "layer", "neuron", "rank")
        names = ("value", "window", "position")
        found = {name: (dims, getattr(self, name).transpose(2, 3).cpu().numpy()) for name in names}
        return xr.Dataset(found, coords={"language": list(self.languages)})


def _largest(
    tensor: Float[Tensor, "batch position neuron"], batch: Batch
) -> tuple[Int[Tensor, "batch neuron"], Float[Tensor, "batch neuron"]]:
    """At which real position of each row each neuron is largest, and its value there."""
    import torch

    looked_at = batch.real.clone()
    looked_at[:, 0] = False
    rows = max(1, PIECE // tensor[0].numel())
    at = torch.cat(
        [
            piece.abs().masked_fill_(~mask[:, :, None], -1).max(1).indices
            for piece, mask in zip(tensor.split(rows), looked_at.split(rows), strict=True)
        ]
    )
    return at.int(), tensor.gather(1, at[:, None])[:, 0].float()
