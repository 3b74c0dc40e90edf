"""Gradient × activation of all neurons at once: one forward and one backward pass.

    rows[k] = Σ over positions of a_k · ∂y/∂a_k

for a neuron's output a_k and a number y that each row of a batch has of its own: what a first-order estimate
says that y loses if the neuron is silenced (Molchanov et al., arXiv 1611.06440; attribution patching,
arXiv 2310.10348). A position's activation counts with all that it does to later positions.

Nothing is kept of the gradients: each layer's product is taken on the way back, and no weight's gradient is
computed. What is held is the graph, up to 26 · d_model numbers per token and layer; `TOKENS` bounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from babelscope.interp.anatomy import Anatomy, Site

TOKENS = 1 << 10  # of a batch: at most 1.2 GiB for the 124 M shape

Slope = Callable[[Float[Tensor, "batch position d_model"]], Float[Tensor, "batch position d_model"]]
Take = Callable[[int, Float[Tensor, "batch neuron"]], None]


def gradient_times_activation(
    anatomy: Anatomy, input_ids: Int[Tensor, "batch position"], *, slope: Slope, take: Take
) -> None:
    """Gradient × activation, summed over the positions of each row.

    Parameters
    ----------
    input_ids
        Right-padded rows. What is past a row's end counts only where `slope` says so.
    slope
        From what the unembedding reads, to its gradient ∂y/∂normed.
    take
        Called with each layer's number, from 0, and what its rows sum up to, in float32; last layer first.
    """
    finals: list[Tensor] = []
    start = torch.zeros((), device=anatomy.device, requires_grad=True)
    anatomy.run(
        input_ids,
        see={Site.FINAL: lambda _site, _layer, final: finals.append(final)},
        edit={Site.NEURON: lambda layer, neurons: _Product.apply(neurons, start, layer, take)},
        gradients=True,
    )
    (final,) = finals
    # Towards `start`, where no gradient ever arrives: what lies between is computed, no weight's gradient.
    with torch.no_grad():
        gradient = slope(final)
    torch.autograd.grad(final, start, gradient, allow_unused=True)


class _Product(torch.autograd.Function):
    """Lets neurons through as they are; on the way back hands over their product with the gradient.

    `start` is a tensor that wants a gradient, so that there is a graph from the first neurons on and none
    before them.
    """

    @staticmethod
    def forward(ctx: Any, neurons: Tensor, start: Tensor, layer: int, take: Take) -> Tensor:
        ctx.save_for_backward(neurons)
        ctx.layer, ctx.take = layer, take
        return neurons.view_as(neurons)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        (neurons,), (gradient,) = ctx.saved_tensors, gradients
        ctx.take(ctx.layer, (neurons.float() * gradient.float()).sum(1))
        return gradient if ctx.needs_input_grad[0] else None, None, None, None
