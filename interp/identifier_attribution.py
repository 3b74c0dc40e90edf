"""Which neurons decide between the pivot's and the target's identifier, where the target's is due.

At the last position of the target's prompts of concept c, with y the log-odds of pivot against target, those
of log-mean-exp over each set's logits as in `direction_effect`:

    identifier_attribution    Σ_t a_t · ∂y/∂a_t, over the positions t of the prompt, along every path
    direct_effect             a · ⟨w, Jᵀ d⟩, at the last position only and along the direct path only

a is a neuron's output and w its column of the down-projection. d = ∂y/∂normed is the gradient at what the
unembedding reads: the mean row of W_U of the pivot's set less that of the target's, where a spelling weighs
what it weighs in y. J = A / σ is the final norm with its scale σ held at what it is; A multiplies by the
norm's weight and, in LayerNorm, takes the mean out first (Elhage et al., "A Mathematical Framework for
Transformer Circuits", 2021). So the direct effect says what the unembedding reads of a neuron, not what later
blocks make of it, nor that without it everything else would be scaled otherwise.

Above 0 a neuron pushes toward the language. What pushes toward the pivot pushes away from the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from babelscope.interp.directions import contrasted
from babelscope.interp.measure import Drive, FromModel, Item, Observe, Observer
from babelscope.interp.streams import PromptReading, PromptStream

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from babelscope.interp.anatomy import Anatomy, Site
    from babelscope.interp.batching import Batch


class _Toward(FromModel[PromptReading]):
    """A measure of how far neurons push toward either language.

    Result: `total` (language, block, layer, neuron) and `tokens` (language, block), with the pivot and the
    target as languages, concepts as blocks and prompts as tokens. `paired` says that a block's languages are
    two sides of the same prompts, so that a null swaps them within it.

    Parameters
    ----------
    stream
        Identifier probes, the pivot's and the target's among them.
    pivot, target
        Prompts are the target's.
    """

    random_init: ClassVar[bool] = True

    def __init__(self, stream: PromptStream, *, pivot: str, target: str):
        self.stream = stream
        self.pivot, self.target = pivot, target

    @property
    def config(self) -> dict[str, Any]:
        return {"pivot": self.pivot, "target": self.target}

    def combine(self, parts: Sequence[xr.Dataset], reading: PromptReading) -> xr.Dataset:
        """Sums over shards."""
        return xr.concat(parts, dim="shard").sum("shard").assign_attrs(paired=1)


class IdentifierAttribution(_Toward, Drive[PromptReading]):
    """Gradient × activation on the log-odds of pivot against target."""

    name: ClassVar[str] = "identifier_attribution"
    version: ClassVar[int] = 1

    def drive(
        self, anatomy: Anatomy, tokenizer: Any, reading: PromptReading, shard: Sequence[Item]
    ) -> xr.Dataset:
        from babelscope.interp.batching import batches
        from babelscope.interp.neuron_gradients import TOKENS, gradient_times_activation

        odds = _Odds(anatomy, reading, pivot=self.pivot, target=self.target)
        totals = _ByConcept(odds, layers=anatomy.n_layers, neurons=anatomy.d_neurons)
        for batch in batches(odds.asked(shard), tokens=TOKENS, device=anatomy.device):
            gradient_times_activation(
                anatomy,
                batch.input_ids,
                slope=lambda final, batch=batch: odds.gradients(final, batch),
                take=lambda layer, rows, batch=batch: totals.add(layer, rows, batch.items),
            )
        return totals.result()


class DirectEffect(_Toward, Observe[PromptReading]):
    """What the unembedding reads of each neuron, in log-odds of pivot against target."""

    name: ClassVar[str] = "direct_effect"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"neuron", "residual"})

    def observer(self, anatomy: Anatomy, reading: PromptReading, shard: Sequence[Item]) -> Observer:
        return _Direct(anatomy, _Odds(anatomy, reading, pivot=self.pivot, target=self.target))


class _Odds:
    """The log-odds of pivot against target after each of the target's prompts."""

    def __init__(self, anatomy: Anatomy, reading: PromptReading, *, pivot: str, target: str):
        from babelscope.interp.lens import Readout

        self.readout = Readout(anatomy)
        self.languages = (pivot, target)
        self.concepts = contrasted(reading, pivot=pivot, target=target)
        self.sets = {c: (reading.sets[c, pivot], reading.sets[c, target]) for c in self.concepts}
        self.concept = {
            item.index: probe.concept
            for item, probe in zip(reading.items, reading.probes, strict=True)
            if probe.language == target and probe.concept in self.sets
        }

    def asked(self, items: Sequence[Item]) -> list[Item]:
        """Those that end where the target's identifier of a concept that tells the two apart is due."""
        return [item for item in items if item.index in self.concept]

    def gradient(
        self, normed: Float[Tensor, "row d_model"], items: Sequence[Item]
    ) -> Float[Tensor, "row d_model"]:
        """Of the log-odds at each row, one of each item; float32."""
        import torch

        found = torch.zeros_like(normed, dtype=torch.float32)
        concepts = np.array([self.concept[item.index] for item in items])
        for concept in np.unique(concepts):
            rows = torch.as_tensor(np.flatnonzero(concepts == concept), device=normed.device)
            for sign, tokens in zip((1, -1), self.sets[concept], strict=True):
                columns = torch.as_tensor(tokens, device=normed.device)
                weights = self.readout.logits(normed[rows], tokens=columns).softmax(-1)
                found[rows] += sign * weights @ self.readout.unembed[columns].float()
        return found

    def gradients(
        self, final: Float[Tensor, "batch position d_model"], batch: Batch
    ) -> Float[Tensor, "batch position d_model"]:
        """Of the log-odds after each row's last token, at every position."""
        import torch

        found, every = torch.zeros_like(final), torch.arange(len(final), device=final.device)
        found[every, batch.last] = self.gradient(final[every, batch.last], batch.items).to(found.dtype)
        return found


class _ByConcept:
    """Running sums by concept, of what pushes toward the pivot."""

    def __init__(self, odds: _Odds, *, layers: int, neurons: int):
        self.odds = odds
        self.total = np.zeros((len(odds.concepts), layers, neurons))
        self.tokens = np.zeros(len(odds.concepts), dtype=np.int64)

    def add(self, layer: int, rows: Float[Tensor, "row neuron"], items: Sequence[Item]) -> None:
        """Add what each item's row holds of one layer's neurons."""
        concepts = np.array([self.odds.concepts.index(self.odds.concept[i.index]) for i in items], int)
        np.add.at(self.total[:, layer], concepts, rows.cpu().numpy())
        if layer == 0:
            np.add.at(self.tokens, concepts, 1)

    def result(self) -> xr.Dataset:
        return xr.Dataset(
            {
                "total": (("language", "block", "layer", "neuron"), np.stack([self.total, -self.total])),
                "tokens": (("language", "block"), np.stack([self.tokens, self.tokens])),
            },
            coords={"language": list(self.odds.languages), "block": list(self.odds.concepts)},
        )


class _Direct:
    def __init__(self, anatomy: Anatomy, odds: _Odds):
        self.anatomy, self.odds = anatomy, odds
        self.totals = _ByConcept(odds, layers=anatomy.n_layers, neurons=anatomy.d_neurons)
        self.neurons: list[Tensor] = []  # of the batch, by layer: outputs at the last positions

    def see(self, site: Site, layer: int, tensor: Tensor, batch: Batch) -> None:
        import torch

        from babelscope.interp.anatomy import input_rows

        rows = [row for row, item in enumerate(batch.items) if item.index in self.odds.concept]
        items = [batch.items[row] for row in rows]
        where = torch.as_tensor(rows, dtype=torch.long, device=tensor.device)
        last = batch.last.to(tensor.device)[where]
        if site == "neuron":
            self.neurons.append(tensor[where, last])
        elif layer == self.anatomy.n_layers:
            hidden = tensor[where, last]
            normed = self.anatomy.final_norm(hidden)
            pulled = pulled_back(self.anatomy.final_norm, hidden, self.odds.gradient(normed, items))
            for of, (neurons, down) in enumerate(zip(self.neurons, self.anatomy.downs, strict=True)):
                self.totals.add(of, neurons.float() * (pulled @ input_rows(down).float().T), items)
            self.neurons = []

    def result(self) -> xr.Dataset:
        return self.totals.result()


def pulled_back(
    norm: nn.Module, hidden: Float[Tensor, "row d_model"], along: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row d_model"]:
    """Jᵀ along, for the final norm with its scale held at what it is at each row; float32.

    A norm is x ↦ A·x / σ(x) + β, whatever its kind. At 0 σ is flat, so that its gradient there is Aᵀ / σ(0);
    and how much smaller the norm's own scale is, σ(0) / σ(h), shows in what it makes of h.
    """
    import torch

    shifted = norm(torch.zeros_like(hidden))
    moved = (norm(hidden) - shifted).float()  # A·h / σ(h)
    with torch.enable_grad():
        origin = torch.zeros_like(hidden, requires_grad=True)
        read = norm(origin).float()
        own, pulled = (
            torch.autograd.grad((read * v).sum(), origin, retain_graph=True)[0].float()
            for v in (moved, along)
        )
    # ⟨Aᵀ moved / σ(0), h⟩ = |A·h|² / (σ(0) σ(h)), and |moved|² = |A·h|² / σ(h)².
    shrink = moved.square().sum(-1, keepdim=True) / (own * hidden.float()).sum(-1, keepdim=True)
    return pulled * shrink
