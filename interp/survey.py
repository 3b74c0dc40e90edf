"""One pass over the whole vocabulary: what a readout says in each row, with no row × vocabulary kept.

Logits l_v go by in blocks of columns; what is kept of them are sums and the best few:

    normaliser   log Z = log Σ exp l_v
    entropy      log Z − Σ l_v exp(l_v) / Z        (nats)
    above        #{v : l_v > mark}, for marks that are given: the rank of a token, less one
    top          the k largest
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from babelscope.interp.lens import BLOCK, Readout

TOP = 5
ROWS = 256  # at a time
STRIDE = 64  # the k largest of a block lie in the k strides of largest maximum: one quick pass finds those
# Of a logit, by the model's type.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes
    ----------
    top, top_logits
        (row, TOP) the likeliest tokens, likeliest first, and their logits.
    normaliser, entropy
        (row,) log Σ exp, and nats.
    above
        (row, mark) tokens whose logit is above the mark by more than rounding.
    """

    top: Int[Tensor, "row top"]
    top_logits: Float[Tensor, "row top"]
    normaliser: Float[Tensor, " row"]
    entropy: Float[Tensor, " row"]
    above: Int[Tensor, "row mark"]

    @property
    def top_probabilities(self) -> Float[Tensor, "row top"]:
        return (self.top_logits - self.normaliser[:, None]).exp()


def survey(
    readout: Readout, normed: Float[Tensor, "row d_model"], *, marks: Float[Tensor, "row mark"] | None = None
) -> Survey:
    """Read the whole vocabulary at each row, in float32.

    Parameters
    ----------
    readout
        Unembedding, and its bias where there is one.
    normed
        States that the final norm has already seen.
    marks
        Logits to count the tokens above of; none if not given.
    """
    marks = torch.empty(len(normed), 0, device=normed.device) if marks is None else marks
    marks = marks + ROUNDING[readout.unembed.dtype] * (1 + marks.abs())
    parts = [_survey(readout, *some) for some in zip(normed.split(ROWS), marks.split(ROWS), strict=True)]
    return Survey(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Survey)))


def _survey(
    readout: Readout, normed: Float[Tensor, "row d_model"], marks: Float[Tensor, "row mark"]
) -> Survey:
    rows, device = len(normed), normed.device
    highest = torch.full((rows,), -torch.inf, device=device)
    total, moment = torch.zeros(rows, device=device), torch.zeros(rows, device=device)
    above = torch.zeros(rows, marks.shape[1], dtype=torch.long, device=device)
    top = torch.zeros(rows, 0, dtype=torch.long, device=device)
    top_logits = torch.empty(rows, 0, device=device)
    for start in range(0, readout.vocabulary, BLOCK):
        block = slice(start, start + BLOCK)
        logits = normed @ readout.unembed[block].T
        logits = (logits if readout.bias is None else logits + readout.bias[block]).float()
        for mark in range(marks.shape[1]):
            above[:, mark] += (logits > marks[:, mark, None]).sum(-1)
        best, tokens = _largest(logits)
        top_logits, order = torch.cat([top_logits, best], 1).sort(dim=1, descending=True, stable=True)
        top = torch.cat([top, tokens + start], 1).gather(1, order)
        top, top_logits = top[:, :TOP], top_logits[:, :TOP]
        before, highest = highest, top_logits[:, 0]
        shrink = (before - highest).exp()  # what was summed against a lower maximum
        weights = (logits - highest[:, None]).exp_()
        total = total * shrink + weights.sum(-1)
        moment = moment * shrink + torch.einsum("rv,rv->r", weights, logits)
    normaliser = highest + total.log()
    return Survey(top, top_logits, normaliser, normaliser - moment / total, above)


def _largest(
    logits: Float[Tensor, "row column"],
) -> tuple[Float[Tensor, "row top"], Int[Tensor, "row top"]]:
    """The largest few of a block and where they are."""
    rows, columns = logits.shape
    if columns % STRIDE or columns // STRIDE <= TOP:
        found = logits.topk(min(TOP, columns))
        return found.values, found.indices
    strides = logits.view(rows, -1, STRIDE)
    where = strides.amax(-1).topk(TOP).indices  # (row, TOP)
    inside = strides.gather(1, where[:, :, None].expand(-1, -1, STRIDE)).flatten(1).topk(TOP)
    tokens = where.gather(1, inside.indices // STRIDE) * STRIDE + inside.indices % STRIDE
    return inside.values, tokens
