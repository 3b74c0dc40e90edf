"""Lenses: read a hidden state as if it were the last one.

    logit lens    logits_l = W_U · norm_f(h_l) + b_U
    tuned lens    the same of h_l + A_l h_l + b_l, with translators A_l, b_l trained to the last block

h_l is the residual stream after block l, norm_f the model's final norm with fresh statistics,
W_U its unembedding (nostalgebraist, "interpreting GPT: the logit lens", 2020). At the last block
this is the model's own output; `check_readout` holds every checkpoint to that. Translators
(arXiv 2303.08112) are those that `tuned_lens` measures; at the last block there is none.

Nothing here ever holds layers × positions × vocabulary: callers pick positions first and, where
they compare a few tokens, columns first. What needs the whole vocabulary goes through it in blocks.
"""

from __future__ import annotations

import hashlib
import math

import torch
import xarray as xr
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


class LogitLens:
    """The model's own readout, applied to any layer.

    Parameters
    ----------
    anatomy
        Where this model keeps its final norm and unembedding.
    """

    def __init__(self, anatomy: Anatomy):
        self.norm, self.readout = anatomy.final_norm, Readout(anatomy)

    def normed(
        self, hidden: Float[Tensor, "*rows d_model"], *, layer: int | None = None
    ) -> Float[Tensor, "*rows d_model"]:
        """What the unembedding reads of the states after block `layer`; here the same at every one."""
        del layer
        return self.norm(hidden)

    def logits(
        self,
        hidden: Float[Tensor, "*rows d_model"],
        *,
        layer: int | None = None,
        tokens: Int[Tensor, " columns"] | None = None,
    ) -> Float[Tensor, "*rows columns"]:
        """As `Readout.logits`, of raw outputs of block `layer`."""
        return self.readout.logits(self.normed(hidden, layer=layer), tokens=tokens)


class TunedLens(LogitLens):
    """The model's readout of translated states.

    It is trained to say what the last block says, so it may hide that a middle one says something else.

    Parameters
    ----------
    anatomy
        The model.
    found
        What `TunedTranslators` found for this very model: `weight`, `bias` and `model`.

    Raises
    ------
    InputError
        If the translators are of several checkpoints, of another shape or of another model.
    """

    def __init__(self, anatomy: Anatomy, found: xr.Dataset):
        super().__init__(anatomy)
        if missing := [name for name in ("weight", "bias", "model") if name not in found]:
            there = ", ".join(map(str, found)) or "nothing"
            raise InputError(
                f"no translators: {', '.join(map(repr, missing))} not among {there}; give what "
                "TunedTranslators found"
            )
        if "step" in found["weight"].dims:
            raise InputError(
                f"translators of {found.sizes['step']} checkpoints; choose one with .sel(step=...)"
            )
        width = self.readout.unembed.shape[1]
        expected = (anatomy.n_layers - 1, width, width)
        if found["weight"].shape != expected or found["bias"].shape != expected[:2]:
            raise InputError(
                f"translators of shape {found['weight'].shape} and {found['bias'].shape}, where this model "
                f"needs {expected} and {expected[:2]}; train them on it"
            )
        own = model_digest(anatomy)
        if (trained := str(found["model"].item())) != own:
            raise InputError(
                f"translators of model {trained} for model {own}: other weights, or another dtype; train "
                "them on this one"
            )
        self.weight = torch.as_tensor(found["weight"].to_numpy(), device=anatomy.device)
        self.shift = torch.as_tensor(found["bias"].to_numpy(), device=anatomy.device)

    def normed(
        self, hidden: Float[Tensor, "*rows d_model"], *, layer: int | None = None
    ) -> Float[Tensor, "*rows d_model"]:
        """What the unembedding reads of the translated states after block `layer`, counted from 1.

        Raises
        ------
        InputError
            If the layer is not said or is none of the model's.
        """
        last = len(self.weight) + 1
        if layer is None or not 1 <= layer <= last:
            raise InputError(f"layer={layer}: a tuned lens differs by layer; give one of 1 to {last}")
        if layer == last:
            return self.norm(hidden)
        return self.norm(translated(hidden, self.weight[layer - 1], self.shift[layer - 1]))


def translated(
    hidden: Float[Tensor, "*rows d_model"],
    weight: Float[Tensor, "d_model d_model"],
    bias: Float[Tensor, " d_model"],
) -> Float[Tensor, "*rows d_model"]:
    """h + A h + b, computed in the translator's float32 and returned in the state's type."""
    exact = hidden.float()
    return (exact + exact @ weight.T + bias).to(hidden.dtype)


def model_digest(anatomy: Anatomy) -> str:
    """Name of a model's weights as they are in memory: shapes, types and values.

    Of the final norm and the unembedding every byte counts, of other weights up to 1,024 evenly spaced
    values each: training moves nearly all of them, and whole models are too large to hash at every use.
    """
    seen = hashlib.sha256(str(anatomy.final_norm).encode())  # its epsilon too
    bias = [] if anatomy.unembed_bias is None else [anatomy.unembed_bias]
    sampled = [values.detach().flatten() for values in anatomy.model.parameters()]
    sampled = [values[:: max(1, -(-len(values) // 1024))] for values in sampled]
    for values in (*anatomy.final_norm.parameters(), anatomy.unembed, *bias, *sampled):
        seen.update(f"{values.dtype} {tuple(values.shape)}".encode())
        seen.update(values.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return seen.hexdigest()[:20]


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
