"""Training of the tuned lens's translators, from a sample of positions (see `tuned_lens`).

The states of that sample are kept, in the model's type and outside the accelerator; nothing else grows with
the text. Logits of the full vocabulary exist for a block of positions and one layer at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import kl_div

from babelscope.interp.anatomy import Anatomy, Site
from babelscope.interp.batching import Batch, batches
from babelscope.interp.lens import LogitLens, translated
from babelscope.interp.measure import Item
from babelscope.interp.tuned_lens import BATCH, RATE, RIDGE, STEPS

READ_TOKENS = 1 << 12  # of a batch that is read
LOGITS_AT_ONCE = 1 << 22  # positions of a block × vocabulary: 16 MiB of float32, and some copies of it

States = Float[Tensor, "layer row d_model"]  # of every block, the last included


@dataclass(frozen=True)
class Sample:
    """Some positions of a text.

    Attributes
    ----------
    states
        After every block.
    items
        (row,) the item that each comes from.
    """

    states: States
    items: Int[np.ndarray, " row"]


def sampled(anatomy: Anatomy, items: Sequence[Item], positions: int, rng: np.random.Generator) -> Sample:
    """At most `positions` random positions of these items.

    Never an item's first: many models park a huge state there that says nothing of the text ("massive
    activations", arXiv 2402.17762), and least squares would see little else.
    """
    sizes = [len(item.ids) - 1 for item in items]
    chosen = np.zeros(sum(sizes), dtype=bool)
    chosen[rng.permutation(len(chosen))[:positions]] = True
    wanted = dict(zip((item.index for item in items), np.split(chosen, np.cumsum(sizes)[:-1]), strict=True))
    states, rows = [], []
    for batch in batches(items, tokens=READ_TOKENS, device=anatomy.device):
        look = torch.zeros_like(batch.real)
        for row, item in enumerate(batch.items):
            look[row, 1 : len(item.ids)] = torch.as_tensor(wanted[item.index], device=look.device)
            rows.append(np.full(wanted[item.index].sum(), item.index))
        states.append(_at(anatomy, batch, look))
    return Sample(torch.cat(states, dim=1), np.concatenate(rows))


def _at(anatomy: Anatomy, batch: Batch, look: Bool[Tensor, "batch position"]) -> States:
    seen: list[Tensor] = []
    anatomy.run(
        batch.input_ids, see={Site.RESIDUAL: lambda _site, _layer, states: seen.append(states[look].cpu())}
    )
    return torch.stack(seen)


def fitted(
    anatomy: Anatomy, states: States, rng: np.random.Generator
) -> tuple[Float[Tensor, "layer output input"], Float[Tensor, "layer output"]]:
    """Translators of every layer but the last: ridge regression, then Adam on the divergence."""
    lens, device = LogitLens(anatomy), anatomy.device
    *earlier, last = states.unbind()
    size = [float(layer.float().square().mean().sqrt()) for layer in states]
    pairs = [ridge(layer.to(device).float(), last.to(device).float()) for layer in earlier]
    # Adam's steps are as large as its rate, so that is in units of what A_l maps from and to.
    rates = [(RATE * size[-1] / own, RATE * size[-1]) for own in size[:-1]]
    groups = [
        {"params": [parameter.requires_grad_()], "lr": rate}
        for pair, both in zip(pairs, rates, strict=True)
        for parameter, rate in zip(pair, both, strict=True)
    ]
    adam = torch.optim.Adam(groups)
    falling = torch.optim.lr_scheduler.LinearLR(adam, start_factor=1.0, end_factor=0.0, total_iters=STEPS)
    for _ in range(STEPS):
        batch = torch.as_tensor(rng.integers(0, states.shape[1], BATCH))
        adam.zero_grad()
        for block in states[:, batch].split(_rows(lens), dim=1):
            block = block.to(device)
            target = _log_probabilities(lens, block[-1])
            for hidden, pair in zip(block[:-1], pairs, strict=True):
                logits = lens.logits(translated(hidden, *pair)).float()
                loss = kl_div(logits.log_softmax(-1), target, log_target=True, reduction="sum") / BATCH
                # Not backward(), which would leave gradients on the model too.
                for parameter, gradient in zip(pair, torch.autograd.grad(loss, pair), strict=True):
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        adam.step()
        falling.step()
    weights, biases = zip(*pairs, strict=True)
    return torch.stack(weights).detach(), torch.stack(biases).detach()


def ridge(
    hidden: Float[Tensor, "row d_model"], last: Float[Tensor, "row d_model"]
) -> tuple[Float[Tensor, "output input"], Float[Tensor, " output"]]:
    """A and b of least squared |h + A h + b − last|² + λ |A|², λ being `RIDGE` times the mean variance."""
    missing = last - hidden
    centred = hidden - hidden.mean(0)
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, centred.T @ (missing - missing.mean(0))).T.contiguous()
    return weight, missing.mean(0) - weight @ hidden.mean(0)


@torch.no_grad()
def divergences(
    anatomy: Anatomy,
    states: States,
    weight: Float[Tensor, "layer output input"],
    bias: Float[Tensor, "layer output"],
) -> Float[np.ndarray, "layer row"]:
    """KL in nats of the last block's distribution from the lens's, at every layer but the last."""
    lens = LogitLens(anatomy)
    found = []
    for block in states.split(_rows(lens), dim=1):
        block = block.to(anatomy.device)
        target = _log_probabilities(lens, block[-1])
        read = [
            _log_probabilities(lens, translated(hidden, weight[layer], bias[layer]))
            for layer, hidden in enumerate(block[:-1])
        ]
        apart = [kl_div(one, target, log_target=True, reduction="none").sum(-1) for one in read]
        found.append(torch.stack(apart).double().cpu().numpy())
    return np.concatenate(found, axis=1)


@torch.no_grad()
def _log_probabilities(lens: LogitLens, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
    return lens.logits(hidden).float().log_softmax(-1)


def _rows(lens: LogitLens) -> int:
    return max(1, LOGITS_AT_ONCE // lens.readout.vocabulary)
