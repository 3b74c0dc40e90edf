"""What a layer loses with a neuron: the importance of PLND, in closed form.

    Imp(neuron | text)² = Σ_t ‖output_t without the neuron − output_t‖²

Zhao et al., NeurIPS 2024 ("How do Large Language Models Handle Multilingualism?"): a neuron that matters in
all text of a language is the language's. They zero neurons one by one; nothing here does.

    MLP      Σ_t act_tk² · ‖W_down[k]‖²                                          exact
    value    Σ_t Σ_hh′ z_thj z_th′j ⟨W_O[hj], W_O[h′j]⟩                          exact
    query    Σ_ts (dP_ts)²,  dP_ts = −P_ts (Δ_ts − Σ_s′ P_ts′ Δ_ts′)             to first order
    key      the same

z is the heads before the output projection W_O; h and h′ go over the query heads that share the value.
P is the attention's pattern, here the output whose change counts, and Δ_ts what the neuron adds to its
scores. With rotary embedding that is a sum of two products, Δ_ts = a_t u_s + b_t v_s (`attention.Rotary`):
the change then needs no more than products of P and P² with u, v, u², uv and v², in time l² · width and
memory l² per head, and no tensor (neuron, l, l).

A neuron of the attention is a column of a projection, bias included: it is zero before rotary embedding,
for all query heads that share it, at all positions. Without rotary embedding, and with a key for every query
head, a column of the queries and that of the keys add the same product to the scores: both count the same.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from babelscope.interp.measure import Item, Observer
from babelscope.interp.neuron_totals import PIECE, ObservedTotals
from babelscope.interp.streams import TextReading

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from babelscope.interp.anatomy import Anatomy
    from babelscope.interp.attention import Opened
    from babelscope.interp.batching import Batch
    from babelscope.interp.neuron_totals import Contribution

    Sides = tuple[
        Float[Tensor, "row position width"],
        Float[Tensor, "row position turned"],
        Float[Tensor, "row position width"],
        Float[Tensor, "row position turned"],
    ]

AT_ONCE = 1 << 22  # entries of patterns in memory together


class PlndFfn(ObservedTotals):
    """Neurons of the MLP: `total` is Imp², so that √(total / tokens) is what a token's output loses."""

    name: ClassVar[str] = "plnd_ffn"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"neuron"})
    random_init: ClassVar[bool] = True

    def contribution(self, anatomy: Anatomy) -> Contribution:
        from babelscope.interp.anatomy import input_rows

        written = [input_rows(down).float().square().sum(-1) for down in anatomy.downs]  # (neuron,) per layer

        def rows(layer: int, tensor: Tensor, batch: Batch) -> Float[Tensor, "batch neuron"]:
            return _squares(tensor, batch.real) * written[layer]

        return rows


class PlndValue(ObservedTotals):
    """Columns of the value projection, key-value head by key-value head."""

    name: ClassVar[str] = "plnd_value"
    version: ClassVar[int] = 1
    sites: ClassVar[frozenset[str]] = frozenset({"heads"})
    random_init: ClassVar[bool] = True

    def neurons(self, anatomy: Anatomy) -> int:
        return anatomy.heads.key_value * anatomy.heads.width

    def contribution(self, anatomy: Anatomy) -> Contribution:
        import torch
        from einops import rearrange

        from babelscope.interp.anatomy import input_rows

        shape = {"g": anatomy.heads.key_value, "w": anatomy.heads.width}
        gram = []
        for output in anatomy.attention_outputs:
            written = rearrange(input_rows(output).float(), "(g h w) d -> g w h d", **shape)
            gram.append(written @ written.mT)  # of the query heads that share a value

        def rows(layer: int, tensor: Tensor, batch: Batch) -> Float[Tensor, "batch neuron"]:
            heads = rearrange(tensor.float() * batch.real[..., None], "b t (g h w) -> b g w h t", **shape)
            return torch.einsum("bgwhi,gwhi->bgw", heads @ heads.mT, gram[layer]).flatten(1)

        return rows


class _FirstOrder(ObservedTotals):
    """What the pattern loses with a column of a projection, to first order."""

    sites: ClassVar[frozenset[str]] = frozenset({"attention"})
    random_init: ClassVar[bool] = True

    @staticmethod
    @abstractmethod
    def sides(
        query: Float[Tensor, "row position width"], key: Float[Tensor, "row position width"], opened: Opened
    ) -> Sides:
        """a, b, u and v of each neuron, of queries and keys before rotary embedding."""

    def observer(self, anatomy: Anatomy, reading: TextReading, shard: Sequence[Item]) -> Observer:
        """A fresh accumulator.

        Raises
        ------
        InputError
            If the attention is not as `attention` reads it.
        """
        import torch

        from babelscope.interp.attention import Attention

        longest = max(shard, key=lambda item: len(item.ids))
        Attention(anatomy).check(torch.as_tensor(longest.ids, device=anatomy.device)[None])
        return super().observer(anatomy, reading, shard)

    def contribution(self, anatomy: Anatomy) -> Contribution:
        from babelscope.interp.attention import Attention

        attention = Attention(anatomy)

        def rows(layer: int, tensor: Tensor, batch: Batch) -> Float[Tensor, "batch neuron"]:
            lost = self._lost(attention.open(layer, tensor), batch.real)  # (batch, query head, width)
            shared = lost.unflatten(1, (-1, lost.shape[1] * lost.shape[2] // self.neurons(anatomy)))
            return shared.sum(2).flatten(1)

        return rows

    def _lost(
        self, opened: Opened, real: Bool[Tensor, "batch position"]
    ) -> Float[Tensor, "batch head width"]:
        import torch

        batch, heads, length, _ = opened.query.shape
        every = (
            opened.query.flatten(0, 1),
            opened.key.flatten(0, 1),
            real[:, None].expand(-1, heads, -1).flatten(0, 1),
        )
        size = max(1, AT_ONCE // length**2)
        lost = []
        for query, key, counted in zip(*(x.split(size) for x in every), strict=True):
            pattern = opened.pattern(opened.rotary(query), opened.rotary(key))
            lost.append(change(pattern, *self.sides(query, key, opened), counted))
        return torch.cat(lost).unflatten(0, (batch, heads))


class PlndQuery(_FirstOrder):
    """Columns of the query projection, head by head."""

    name: ClassVar[str] = "plnd_query"
    version: ClassVar[int] = 1

    def neurons(self, anatomy: Anatomy) -> int:
        return anatomy.heads.query * anatomy.heads.width

    @staticmethod
    def sides(query: Tensor, key: Tensor, opened: Opened) -> Sides:
        stays, goes = opened.rotary.apart(query * opened.scale)
        turned = opened.rotary(key)
        return stays, goes, turned, opened.rotary.partners(turned)


class PlndKey(_FirstOrder):
    """Columns of the key projection, key-value head by key-value head."""

    name: ClassVar[str] = "plnd_key"
    version: ClassVar[int] = 1

    def neurons(self, anatomy: Anatomy) -> int:
        return anatomy.heads.key_value * anatomy.heads.width

    @staticmethod
    def sides(query: Tensor, key: Tensor, opened: Opened) -> Sides:
        turned = opened.rotary(query * opened.scale)
        return turned, opened.rotary.partners(turned), *opened.rotary.apart(key)


def change(
    pattern: Float[Tensor, "row query key"],
    a: Float[Tensor, "row query width"],
    b: Float[Tensor, "row query turned"],
    u: Float[Tensor, "row key width"],
    v: Float[Tensor, "row key turned"],
    real: Bool[Tensor, "row query"],
) -> Float[Tensor, "row width"]:
    """Σ over real t and all s of P_ts² (Δ_ts − Σ_s′ P_ts′ Δ_ts′)² with Δ_ts = a_t u_s + b_t v_s, per neuron.

    The bracket does not change if u_s and v_s are counted from those of the position s* that t attends to
    most. There they are 0, so that P_ts* appears in the last term only: what is small where a pattern has one
    large entry is then a sum of small numbers, and no difference of large ones.
    """
    import torch

    turned = v.shape[-1]
    largest, where = pattern.max(-1, keepdim=True)
    others = pattern.scatter(-1, where, 0)
    squares = others.square()
    sides = torch.cat([u, v], -1)
    origin = sides.gather(1, where.expand(-1, -1, sides.shape[-1]))  # u and v at s*

    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., : u.shape[-1]], x[..., u.shape[-1] :]

    weight = squares.sum(-1, keepdim=True)
    mean = others @ sides - origin * others.sum(-1, keepdim=True)  # Σ P (u − u*)
    once = squares @ sides
    twice = squares @ sides.square() + origin * (origin * weight - 2 * once)  # Σ P² (u − u*)²
    (u_origin, v_origin), (u_once, v_once) = split(origin), split(once)
    both = (
        squares @ (u[..., :turned] * v)
        - u_origin[..., :turned] * v_once
        + v_origin * (u_origin[..., :turned] * weight - u_once[..., :turned])
    )
    (u_mean, v_mean), (u_twice, v_twice) = split(mean), split(twice)
    u_once, v_once = split(once - origin * weight)  # Σ P² (u − u*)

    expected = a * u_mean  # Σ P Δ, from here on as seen from s*
    expected[..., :turned] += b * v_mean
    first = a * u_once
    first[..., :turned] += b * v_once
    second = a.square() * u_twice
    second[..., :turned] += b.square() * v_twice + 2 * a[..., :turned] * b * both
    change = second + expected * (expected * (weight + largest.square()) - 2 * first)
    return torch.einsum("ntw,nt->nw", change, real.to(change)).clamp_min(0)  # a rounded 0 has a root, too


def _squares(
    tensor: Float[Tensor, "batch position neuron"], real: Bool[Tensor, "batch position"]
) -> Float[Tensor, "batch neuron"]:
    """Σ over real positions of the square, of what fits the cache at a time."""
    import torch

    weights = real[:, None].float()  # (batch, 1, position)
    size = max(1, PIECE // tensor[0].numel())
    pieces = zip(weights.split(size), tensor.split(size), strict=True)
    return torch.cat([(weight @ piece.float().square())[:, 0] for weight, piece in pieces])
