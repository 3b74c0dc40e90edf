"""Attention opened: queries, keys and values of every head, from what goes into the attention.

    pattern_ts = softmax over the visible s of scale · ⟨q̃_t, k̃_s⟩,      head_t = Σ_s pattern_ts v_s

q̃ and k̃ are the query and the key after rotary embedding, which turns dimension k with a partner k′:

    q̃_tk = cos_tk q_tk ∓ sin_tk q_tk′

Families differ in where the columns of q, k and v are (`families.Projections`) and in what they call the
rest. Angles and scale are the model's own. `Attention.check` holds all of it against the heads that the
model itself computes, so that what is read wrong is refused and not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from babelscope.core.errors import InputError
from babelscope.interp.anatomy import Anatomy, Heads, Site, input_rows
from babelscope.interp.families import Projections

Part = Literal["query", "key", "value"]
PARTS: tuple[Part, ...] = ("query", "key", "value")
QUARTERS = 4  # CodeGen's weights are kept as four machines once held them


@dataclass(frozen=True)
class Rotary:
    """A rotary embedding of the first `turned` dimensions of a head; none are, where there is no such thing.

    Attributes
    ----------
    cos
        (position, turned), by which a dimension stays.
    sin
        (position, turned), by which it goes over to its partner, sign included.
    partner
        (turned,) of each dimension.
    """

    cos: Float[Tensor, "position turned"]
    sin: Float[Tensor, "position turned"]
    partner: Int[Tensor, " turned"]

    def apart(
        self, x: Float[Tensor, "*head position width"]
    ) -> tuple[Float[Tensor, "*head position width"], Float[Tensor, "*head position turned"]]:
        """What each dimension alone becomes: what it leaves where it is, what it gives to its partner."""
        turned = len(self.partner)
        stays = torch.cat([x[..., :turned] * self.cos, x[..., turned:]], -1)
        return stays, x[..., :turned] * self.sin

    def __call__(self, x: Float[Tensor, "*head position width"]) -> Float[Tensor, "*head position width"]:
        stays, goes = self.apart(x)
        stays[..., : len(self.partner)] += self.partners(goes)
        return stays

    def partners(self, x: Float[Tensor, "*head position width"]) -> Float[Tensor, "*head position turned"]:
        """Each turned dimension's partner."""
        return x[..., self.partner]


@dataclass(frozen=True)
class Opened:
    """One layer's attention before rotary embedding, in float32.

    Attributes
    ----------
    query, key
        (batch, query head, position, width); keys are repeated for the query heads that share them.
    rotary
        What comes upon both.
    scale
        Of their products.
    visible
        (query position, key position).
    """

    query: Float[Tensor, "batch head position width"]
    key: Float[Tensor, "batch head position width"]
    rotary: Rotary
    scale: float
    visible: Bool[Tensor, "position position"]

    def pattern(
        self, query: Float[Tensor, "row position width"], key: Float[Tensor, "row position width"]
    ) -> Float[Tensor, "row position position"]:
        """Attention of queries to keys, both after rotary embedding."""
        scores = (query @ key.mT).mul_(self.scale)
        return scores.masked_fill_(~self.visible, -torch.inf).softmax(-1)


class Attention:
    """How a model's attention comes about.

    Neurons of the attention are columns of its projections, counted head by head: `heads.query × width` of
    queries, `heads.key_value × width` of keys and of values.

    Parameters
    ----------
    anatomy
        Of a model of a family with `projections`.

    Attributes
    ----------
    columns
        Of queries, keys and values, (head, width) each: the outputs of their projection that they are.

    Raises
    ------
    InputError
        If it is not known where the family has its queries, keys and values, or they are not there.
    """

    def __init__(self, anatomy: Anatomy):
        self.anatomy = anatomy
        self.heads = anatomy.heads
        projections = anatomy.names.projections
        if projections is None:
            raise InputError(
                f"where {self._kind!r} has its queries, keys and values is not known; give its "
                "babelscope.interp.families.Names their projections (docs/architectures.md)"
            )
        self.projections = projections
        multi_head = getattr(anatomy.model.config, "multi_query", None) is False
        # GPTBigCode has another order where not all heads share one key.
        order = "heads" if projections.order == "parts" and multi_head else projections.order
        self.columns = _columns(projections, order, self.heads)
        for part in PARTS:
            for layer in range(anatomy.n_layers):
                self._projection(layer, part)

    @property
    def _kind(self) -> str:
        return self.anatomy.model.config.model_type

    def _projection(self, layer: int, part: Part) -> nn.Linear | Conv1D:
        modules = self.projections.modules
        path = modules[PARTS.index(part) if len(modules) > 1 else 0]
        try:
            found = self.anatomy.blocks[layer].get_submodule(path)
        except AttributeError as error:
            raise InputError(f"{self._kind!r} {part} in block {layer}: no {path!r}: {error}") from None
        if not isinstance(found, nn.Linear | Conv1D):
            raise InputError(f"{self._kind!r} {part}: {path!r} is a {type(found).__name__}, not linear")
        return found

    def part(
        self, layer: int, part: Part, inputs: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch head position width"]:
        """Queries, keys or values of one layer (from 0), of its attention's input; float32."""
        projection, columns = self._projection(layer, part), self.columns[part].flatten()
        weight = input_rows(projection).T
        bias = None if projection.bias is None else projection.bias[columns]
        found = functional.linear(inputs, weight[columns], bias)
        return rearrange(found, "b t (h w) -> b h t w", w=self.heads.width).float()

    def open(self, layer: int, inputs: Float[Tensor, "batch position d_model"]) -> Opened:
        """Queries and keys of one layer (from 0) and what becomes of them."""
        attention: Any = self.anatomy.blocks[layer].get_submodule(self.anatomy.names.heads.rpartition(".")[0])
        length = inputs.shape[1]
        return Opened(
            self.part(layer, "query", inputs),
            self._for_each_query(self.part(layer, "key", inputs)),
            self._rotary(attention, inputs),
            self._scale(attention),
            self._visible(attention, length).to(inputs.device),
        )

    def check(self, input_ids: Int[Tensor, "batch position"]) -> float:
        """Largest difference, over layers, of the heads as read here from the model's own, as a share.

        Raises
        ------
        InputError
            If it exceeds 1e-3, or what the model's own type can resolve.
        """
        inputs: dict[int, Tensor] = {}
        errors: list[float] = []

        def see(site: Site, layer: int, tensor: Tensor) -> None:
            if site is Site.ATTENTION:
                inputs[layer] = tensor
                return
            read, own = self._heads(layer, inputs.pop(layer)), tensor.float()
            errors.append(float((read - own).norm() / own.norm().clamp_min(1e-30)))

        self.anatomy.run(input_ids, see={Site.ATTENTION: see, Site.HEADS: see})
        tolerance = max(1e-3, 4 * torch.finfo(self.anatomy.unembed.dtype).eps)
        for layer, error in enumerate(errors):
            if not error <= tolerance:  # also when it is NaN
                raise InputError(
                    f"attention of {self._kind!r} is not as expected: in block {layer} its heads differ by "
                    f"{error:.2g} of their size from softmax(query · key) · value as read here; its queries "
                    "and keys cannot be measured (docs/architectures.md)"
                )
        return max(errors)

    def _heads(
        self, layer: int, inputs: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch position head_width"]:
        """Heads side by side, as the attention's output projection reads them."""
        opened = self.open(layer, inputs)
        pattern = opened.pattern(opened.rotary(opened.query), opened.rotary(opened.key))
        value = self._for_each_query(self.part(layer, "value", inputs))
        return rearrange(pattern @ value, "b h t w -> b t (h w)")

    def _for_each_query(
        self, x: Float[Tensor, "batch key_head position width"]
    ) -> Float[Tensor, "batch head position width"]:
        return x.repeat_interleave(self.heads.query // self.heads.key_value, dim=1)

    def _scale(self, attention: Any) -> float:
        if hasattr(attention, "scale_attn"):  # CodeGen divides
            return 1 / attention.scale_attn
        if not hasattr(attention, "scaling"):
            raise InputError(
                f"{self._kind!r} queries and keys cannot be measured: its {type(attention).__name__} has no "
                "scaling that says what it multiplies their products by"
            )
        return attention.scaling

    def _rotary(self, attention: Any, inputs: Float[Tensor, "batch position d_model"]) -> Rotary:
        length, device = inputs.shape[1], inputs.device
        match self.projections.rotary:
            case "halves":
                positions = torch.arange(length, device=device)[None]
                cos, sin = (x[0].float() for x in self.anatomy.base.rotary_emb(inputs, positions))
                half = cos.shape[-1] // 2
                partner = torch.arange(2 * half, device=device).roll(half)
                lower = torch.arange(2 * half, device=device) < half
            case "neighbours":
                angles = attention.embed_positions[:length].float().to(device)
                sin, cos = (x.repeat_interleave(2, -1) for x in angles.chunk(2, -1))
                partner = torch.arange(cos.shape[-1], device=device) ^ 1
                lower = torch.arange(cos.shape[-1], device=device) % 2 == 0
            case None:
                none = torch.zeros(length, 0, device=device)
                return Rotary(none, none, torch.zeros(0, dtype=torch.long, device=device))
        return Rotary(cos, torch.where(lower, sin, -sin), partner)

    def _visible(self, attention: Any, length: int) -> Bool[Tensor, "position position"]:
        window = getattr(self.anatomy.model.config, "sliding_window", None)
        window = getattr(attention, "sliding_window", window)  # Qwen2 has it in some layers only
        back = torch.arange(length)[:, None] - torch.arange(length)
        return (back >= 0) & (back < (window or length))


def _columns(projections: Projections, order: str, heads: Heads) -> dict[Part, Int[Tensor, "head width"]]:
    """Which outputs of its projection a part is."""
    width = heads.width
    counts = {"query": heads.query, "key": heads.key_value, "value": heads.key_value}
    if len(projections.modules) > 1:
        return {part: torch.arange(counts[part] * width).view(-1, width) for part in PARTS}
    every = torch.arange(sum(counts.values()) * width)
    if order == "parts":
        found = every.view(-1, width).split(list(counts.values()))
    elif order == "heads":
        found = rearrange(every, "(h part w) -> part h w", part=3, w=width)
    else:
        query, value, key = rearrange(every, "(m part h w) -> part (m h) w", m=QUARTERS, part=3, w=width)
        found = (query, key, value)
    return dict(zip(PARTS, found, strict=True))
