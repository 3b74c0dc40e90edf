"""The direction that tells the pivot's identifiers from the target's, and how far states lie along it.

The lens reads concept c off a state h as a difference of mean logits,

    ⟨norm_f(h), d_c⟩,   d_c = mean of W_U over the pivot's tokens − mean of W_U over the target's,

and norm_f(h) = A·h / σ(h) + β, where A scales by the norm's weight and, in LayerNorm, takes the mean out
first. So the direction of the residual stream that the lens looks along is u_c = Aᵀd_c / |Aᵀd_c|. Aᵀd_c is
the gradient of the lens at h = 0, up to a factor: there σ is flat, so one rule serves every kind of norm.

The coefficient ⟨h, u_c⟩ is in the units of the residual stream, which differ from layer to layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.core.errors import InputError
from babelscope.interp.measure import Item, Observe, Observer
from babelscope.interp.streams import PromptReading, PromptStream

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch

TokenPair = Sequence[np.ndarray]  # token ids of the pivot's set, and of the target's


def contrasted(reading: PromptReading, *, pivot: str, target: str) -> tuple[str, ...]:
    """Concepts whose identifiers tell the pivot from the target.

    Raises
    ------
    InputError
        If there are fewer than two: what a layer holds where one is due is compared with the others.
    """
    found = tuple(c for c in reading.concepts if {(c, pivot), (c, target)} <= reading.sets.keys())
    if len(found) < 2:
        raise InputError(
            f"concepts that tell {pivot!r} from {target!r} in this tokenizer: {', '.join(found) or 'none'};"
            " give probes of at least two that both languages name, and name apart"
        )
    return found


def directions(anatomy: Anatomy, pairs: Sequence[TokenPair]) -> Float[Tensor, "pair d_model"]:
    """Unit vectors of the residual stream along which the lens tells each pair's sets apart; float32."""
    import torch

    rows = anatomy.unembed.detach()
    apart = torch.stack([rows[p].float().mean(0) - rows[t].float().mean(0) for p, t in pairs])
    return torch.nn.functional.normalize(before_norm(anatomy, apart), dim=-1)


def before_norm(anatomy: Anatomy, readouts: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    """Aᵀd of each readout d of normed states: what it looks along before the norm, up to a factor."""
    import torch

    with torch.enable_grad():
        origin = torch.zeros_like(readouts, dtype=anatomy.unembed.dtype, requires_grad=True)
        read = (anatomy.final_norm(origin) * readouts).sum()
        (pulled,) = torch.autograd.grad(read, origin)
    return pulled.float()


class DirectionCoefficients(Observe[PromptReading]):
    """How far every prompt's state, right before the identifier, lies along each concept's direction.

    Result, by layer, prompt and direction (a concept): `coefficient`.

    Parameters
    ----------
    stream
        Identifier probes, the pivot's and the target's among them.
    pivot, target
        Whose identifiers are told apart.
    """

    name: ClassVar[str] = "direction_coefficients"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"residual"})

    def __init__(self, stream: PromptStream, *, pivot: str, target: str):
        self.stream = stream
        self.pivot, self.target = pivot, target

    @property
    def config(self) -> dict[str, Any]:
        return {"pivot": self.pivot, "target": self.target}

    def observer(self, anatomy: Anatomy, reading: PromptReading, shard: Sequence[Item]) -> Observer:
        concepts = contrasted(reading, pivot=self.pivot, target=self.target)
        return _Coefficients(
            anatomy,
            concepts,
            [(reading.sets[c, self.pivot], reading.sets[c, self.target]) for c in concepts],
            [item.index for item in shard],
        )

    def combine(self, parts: Sequence[xr.Dataset], reading: PromptReading) -> xr.Dataset:
        """By layer, prompt and direction; with the concept and language that each prompt asks for."""
        whole = xr.concat(parts, dim="prompt").sortby("prompt")
        return whole.assign_coords(
            concept=("prompt", [probe.concept for probe in reading.probes]),
            spoken=("prompt", [probe.language for probe in reading.probes]),
        )


class _Coefficients:
    def __init__(
        self, anatomy: Anatomy, concepts: Sequence[str], pairs: Sequence[TokenPair], prompts: Sequence[int]
    ):
        self.concepts, self.units = concepts, directions(anatomy, pairs)
        self.row = {prompt: row for row, prompt in enumerate(prompts)}
        self.found = np.empty((anatomy.n_layers, len(prompts), len(concepts)), np.float32)

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        every = torch.arange(len(batch.items), device=tensor.device)
        rows = [self.row[item.index] for item in batch.items]
        self.found[layer - 1, rows] = (tensor[every, batch.last].float() @ self.units.T).cpu().numpy()

    def result(self) -> xr.Dataset:
        return xr.Dataset(
            {"coefficient": (("layer", "prompt", "direction"), self.found)},
            coords={
                "layer": np.arange(1, len(self.found) + 1),
                "prompt": list(self.row),
                "direction": list(self.concepts),
            },
        )
