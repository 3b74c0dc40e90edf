"""What a neuron writes, as a change of the next token: its direct effect on the vocabulary.

    e_k[v] = ⟨Aᵀ W_U[v], w_k⟩,   z_k[v] = (e_k[v] − mean over v) / (standard deviation over v)

w_k is what neuron k adds to the residual stream per unit of its output: its row of the down-projection
(Geva et al., arXiv 2203.14680). The final norm takes it to A w_k / σ: A scales by the norm's weight and, in
LayerNorm, takes the mean out first; σ is that of the state it is added to (`directions`).

σ differs from position to position, and softmax reads only differences of logits: so an effect is told in
standard deviations over the vocabulary, from the vocabulary's mean. Where the output is negative, everything
is the other way round. Later blocks may undo it or add to it: this is the direct effect alone.

The null are random directions of the residual stream: some token is largest along them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy, input_rows
from babelscope.interp.directions import before_norm
from babelscope.interp.lens import BLOCK

TOP = 10
DRAWS = 200  # random directions
CHANCE = 0.95  # quantile of their largest z


@dataclass(frozen=True)
class VocabularyEffect:
    """The tokens that each row moves most, most first, and by how much, in standard deviations.

    A row of zeros moves nothing: its z are NaN.

    Attributes
    ----------
    raised, lowered
        Token ids.
    raised_by, lowered_by
        z; those of `lowered_by` are negative.
    """

    raised: Int[Tensor, "row top"]
    raised_by: Float[Tensor, "row top"]
    lowered: Int[Tensor, "row top"]
    lowered_by: Float[Tensor, "row top"]


def written(anatomy: Anatomy, neurons: Mapping[int, Sequence[int]]) -> Float[Tensor, "neuron d_model"]:
    """w_k: what each neuron adds to the residual stream per unit of its output.

    Parameters
    ----------
    neurons
        Indices by layer, which is counted from 0; rows come in this order.

    Raises
    ------
    InputError
        If there are none.
    """
    if not any(len(chosen) for chosen in neurons.values()):
        raise InputError("no neurons were given; name at least one, such as {0: [12]}")
    rows = []
    for layer, chosen in neurons.items():
        every = input_rows(anatomy.downs[layer])  # (neuron, d_model)
        rows.append(every[torch.as_tensor(chosen, device=every.device)])
    return torch.cat(rows)


def vocabulary_effect(
    anatomy: Anatomy, rows: Float[Tensor, "row d_model"], *, top: int = TOP
) -> VocabularyEffect:
    """What vectors that are added to the residual stream raise and lower.

    Parameters
    ----------
    rows
        As `written` gives them; their mean for a set of neurons that are active together.
    top
        Tokens to keep of each, in either direction.
    """
    total, square = torch.zeros(2, len(rows), dtype=torch.float64, device=rows.device)
    best: dict[int, tuple[Tensor, Tensor]] = {}
    for start, effects in _effects(anatomy, rows):
        total += effects.double().sum(1)
        square += effects.double().square().sum(1)
        for sign in (1, -1):
            values, tokens = (sign * effects).topk(min(top, effects.shape[1]))
            tokens = tokens + start
            if sign in best:
                values = torch.cat([best[sign][0], values], 1)
                tokens = torch.cat([best[sign][1], tokens], 1)
            values, order = values.sort(dim=1, descending=True, stable=True)
            best[sign] = values[:, :top], tokens.gather(1, order)[:, :top]
    mean = total / len(anatomy.unembed)
    spread = (square / len(anatomy.unembed) - mean.square()).sqrt()
    (raised_by, raised), (lowered_by, lowered) = best[1], best[-1]

    def standard(values: Tensor) -> Tensor:
        return ((values - mean[:, None]) / spread[:, None]).float()

    return VocabularyEffect(raised, standard(raised_by), lowered, standard(-lowered_by))


def chance(anatomy: Anatomy) -> float:
    """The largest z that random directions reach: the 95th percentile over `DRAWS` of them."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(DRAWS, anatomy.unembed.shape[1], generator=generator)
    largest = vocabulary_effect(anatomy, drawn.to(anatomy.device), top=1).raised_by
    return float(largest.quantile(CHANCE))


def _effects(
    anatomy: Anatomy, rows: Float[Tensor, "row d_model"]
) -> Iterator[tuple[int, Float[Tensor, "row column"]]]:
    """Effects on a block of the vocabulary at a time, and where it starts."""
    rows = rows.float()
    for start in range(0, anatomy.unembed.shape[0], BLOCK):
        readouts = anatomy.unembed[start : start + BLOCK].detach()
        yield start, rows @ before_norm(anatomy, readouts).T
