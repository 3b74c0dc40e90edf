"""The loss of chosen tokens of a batch, without ever holding its logits whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

if TYPE_CHECKING:
    from torch import Tensor

    from babelscope.interp.batching import Batch
    from babelscope.interp.lens import Readout

LOGITS_AT_ONCE = 1 << 24  # 64 MiB of float32: rows of a chunk x vocabulary


def token_losses(
    readout: Readout,
    final: Float[Tensor, "batch position d_model"],
    batch: Batch,
    wanted: Bool[Tensor, "batch position-1"],
) -> list[Float[np.ndarray, " tokens"]]:
    """−log p of the token after each wanted position, in nats, for each row of the batch.

    Padding and what is not wanted never reach the unembedding.
    """
    hidden = final[:, :-1][wanted]  # (rows, d_model)
    tokens = batch.input_ids[:, 1:][wanted]
    rows = max(1, LOGITS_AT_ONCE // readout.vocabulary)
    losses = [
        -readout.logits(some).float().log_softmax(-1).gather(-1, ids[:, None])[:, 0].double()
        for some, ids in zip(hidden.split(rows), tokens.split(rows), strict=True)
    ]
    flat = np.concatenate([loss.cpu().numpy() for loss in losses]) if losses else np.array([])
    return np.split(flat, np.cumsum(wanted.sum(-1).cpu().numpy())[:-1])


def loss_gradient(
    readout: Readout, final: Float[Tensor, "batch position d_model"], batch: Batch
) -> Float[Tensor, "batch position d_model"]:
    """Gradient of the summed nats of all predicted tokens: (softmax(logits) − onehot) · W_U, 0 elsewhere."""
    import torch

    wanted = batch.real[:, 1:]
    hidden, tokens = final[:, :-1][wanted], batch.input_ids[:, 1:][wanted]
    rows = max(1, LOGITS_AT_ONCE // readout.vocabulary)
    # One memory for all chunks: new memory of this size would cost a good part of the matrix product.
    memory = hidden.new_empty(min(rows, len(hidden)), readout.vocabulary)
    flat = torch.empty_like(hidden)
    for some, ids, found in zip(hidden.split(rows), tokens.split(rows), flat.split(rows), strict=True):
        logits = torch.mm(some, readout.unembed.T, out=memory[: len(some)])
        if readout.bias is not None:
            logits += readout.bias
        apart = logits.float()
        torch.softmax(apart, -1, out=apart)
        apart[torch.arange(len(ids), device=ids.device), ids] -= 1
        torch.mm(apart.to(some.dtype), readout.unembed, out=found)
    gradient = torch.zeros_like(final)
    gradient[:, :-1][wanted] = flat
    return gradient
