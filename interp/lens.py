"""Logit lens: read a hidden state as if it were the last one.

    logits_l = W_U · norm_f(h_l) + b_U

h_l is the residual stream after block l, norm_f the model's final norm with fresh statistics,
W_U its unembedding (nostalgebraist, "interpreting GPT: the logit lens", 2020). At the last block
this is the model's own output; `check_readout` holds every checkpoint to that.

Nothing here ever holds layers × positions × vocabulary: callers pick positions first and, where
they compare a few tokens, columns first. What needs the whole vocabulary goes through it in blocks.
"""

from __future__ import annotations

import math

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy, Site

BLOCK = 1 << 13  # columns of the unembedding at a time: their logits stay in the processor's cache


class Readout:
    """Unembedding of states that the final norm has already seen."""

    def __init__(self, anatomy: Anatomy):
        self.unembed = anatomy.unembed  # (vocab, d_model)
        self.bias = anatomy.unembed_bias  # CodeGen has one; most have None

    @property
    def vocabulary(self) -> int:
        return self.unembed.shape[0]

    def logits(
        self, normed: Float[Tensor, "*rows d_model"], *, tokens: Int[Tensor, " columns"] | None = None
    ) -> Float[Tensor, "*rows columns"]:
        """Logits of `tokens` (of the whole vocabulary if None) at each row.

        Comparing a few identifiers needs only their columns: with 2,400 of 50,257 columns this is
        about twenty times cheaper. They are float32 whatever the model's type: a logit of 20 is only known
        to 0.06 in bfloat16, and it is their differences that count.
        """
        columns, weight = slice(None), self.unembed
        if tokens is not None:
            columns, normed, weight = tokens, normed.float(), weight[tokens].float()
        logits = einsum(normed, weight, "... d, token d -> ... token")
        return logits if self.bias is None else logits + self.bias[columns]

    def top(self, normed: Float[Tensor, "row d_model"]) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
        """The most likely token of each row, and the log-sum-exp of its logits, in float32."""
        best = torch.zeros(len(normed), dtype=torch.long, device=normed.device)
        highest = torch.full((len(normed),), -torch.inf, device=normed.device)
        normaliser = highest.clone()
        for start in range(0, self.vocabulary, BLOCK):
            block = slice(start, start + BLOCK)
            logits = normed @ self.unembed[block].T
            logits = (logits if self.bias is None else logits + self.bias[block]).float()
            high, where = logits.max(-1)
            best = torch.where(high > highest, where + start, best)
            highest = torch.maximum(high, highest)
            normaliser = torch.logaddexp(normaliser, logits.logsumexp(-1))
        return best, normaliser


class LogitLens(Readout):
    """The model's own readout, applied to any layer.

    Parameters
    ----------
    anatomy
        Where this model keeps its final norm and unembedding.
    """

    def __init__(self, anatomy: Anatomy):
        super().__init__(anatomy)
        self.norm = anatomy.final_norm

    def normed(self, hidden: Float[Tensor, "*rows d_model"], *, layer: int) -> Float[Tensor, "*rows d_model"]:
        """What the unembedding reads of the states after block `layer`."""
        del layer  # the same at every one
        return self.norm(hidden)

    def logits(
        self, hidden: Float[Tensor, "*rows d_model"], *, tokens: Int[Tensor, " columns"] | None = None
    ) -> Float[Tensor, "*rows columns"]:
        """As `Readout.logits`, of raw block outputs."""
        return super().logits(self.norm(hidden), tokens=tokens)

    def top(self, hidden: Float[Tensor, "row d_model"]) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
        """As `Readout.top`, of raw block outputs."""
        return super().top(self.norm(hidden))


def check_readout(anatomy: Anatomy, input_ids: Int[Tensor, "batch position"]) -> float:
    """Largest difference between the lens at the last block and the model's own logits.

    Every checkpoint is held to this before it is measured: an architecture that scales or caps its
    logits, or a swap that left an old unembedding behind, shows here and nowhere else.

    Raises
    ------
    InputError
        If the difference exceeds 1e-3 of the largest logit, or what the model's own type can resolve.
    """
    last: dict[int, Tensor] = {}

    def keep(_site: Site, layer: int, hidden: Tensor) -> None:
        if layer == anatomy.n_layers:
            last[layer] = hidden

    anatomy.run(input_ids, see={Site.RESIDUAL: keep})
    with torch.no_grad():
        read = LogitLens(anatomy).logits(last[anatomy.n_layers])
        own = anatomy.model(input_ids=input_ids, use_cache=False).logits
    error = float((read - own).abs().max())
    tolerance = max(1e-3, 2 * torch.finfo(own.dtype).eps)  # bfloat16 has 8 bits
    if not error <= tolerance * max(1.0, float(own.abs().max())):  # also when it is NaN
        raise InputError(
            f"the lens at the last layer differs from the model's logits by {error:.3g}: this checkpoint "
            "has non-finite weights, or its architecture does more than final norm and unembedding"
        )
    return error


def log_mean_exp(
    logits: Float[Tensor, "row vocab"], tokens: Int[Tensor, "*draw member"]
) -> Float[Tensor, "row *draw"]:
    """Log of the mean over `member` of exp(logit): a set's strength, whatever its size.

    Not the sum: a language with three spellings of an identifier must not win by number.
    """
    return logits[:, tokens].logsumexp(-1) - math.log(tokens.shape[-1])
