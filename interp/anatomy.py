"""Where a model keeps the parts that interpretability needs.

The families differ in a few names only (`families`), so plain Hugging Face models and forward hooks carry
everything: nothing is wrapped, renamed or converted, and weights can be swapped under the hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from babelscope.core.errors import InputError
from babelscope.interp.families import FAMILIES

if TYPE_CHECKING:
    from transformers import Cache


class Site(StrEnum):
    """Where a hook can look; every tensor there is (batch, position, width)."""

    RESIDUAL = "residual"  # output of a block, before the final norm
    GATE = "gate"  # pre-activation of the MLP's gate, or of its only input layer
    NEURON = "neuron"  # input of the down-projection: a neuron's output
    ATTENTION = "attention"  # input of the attention: what queries, keys and values are made from
    HEADS = "heads"  # input of the attention's output projection: the heads, side by side
    FINAL = "final"  # after the final norm: what the unembedding reads


@dataclass(frozen=True)
class Heads:
    """Attention heads of one layer: how many ask, how many are asked, and the width of each."""

    query: int
    key_value: int
    width: int


See = Callable[[Site, int, Tensor], None]
Edit = Callable[[int, Tensor], Tensor]
EDITED = (Site.RESIDUAL, Site.NEURON)  # where a tensor can be replaced, too


class Anatomy:
    """One causal language model, with its parts named.

    Parameters
    ----------
    model
        A Hugging Face causal language model of one of `FAMILIES`, in `eval()` mode: dropout would
        silently make every measure noisy.

    Attributes
    ----------
    blocks, gates, downs, attention_outputs
        One module per layer; see `families.Names`.
    final_norm
        What the unembedding's input passes through last.

    Raises
    ------
    InputError
        If the architecture is unknown, or lacks a part; the message names the part and what is there.
    """

    def __init__(self, model: Any):
        kind = model.config.model_type
        self.model = model
        self.base = model.base_model
        if kind not in FAMILIES:
            raise InputError(
                f"architecture {kind!r} is not known; known are {', '.join(FAMILIES)}. Its "
                f"{type(self.base).__name__} has {_children(self.base)}: name its blocks, norm, gate, down "
                "and heads with babelscope.interp.families.register (docs/architectures.md)"
            )
        if model.training:
            raise InputError(
                "the model is in training mode, where dropout falsifies measures; call model.eval()"
            )
        if model.get_output_embeddings() is None:
            raise InputError(
                f"{type(model).__name__} has no unembedding, only {_children(model)}; load it with "
                "AutoModelForCausalLM"
            )
        self.names = names = FAMILIES[kind]
        blocks = _part(self.base, names.blocks, what=f"{kind!r} blocks")
        if not isinstance(blocks, nn.ModuleList) or len(blocks) == 0:
            raise InputError(
                f"{kind!r} blocks {names.blocks!r} is a {type(blocks).__name__}, not a list of blocks"
            )
        self.blocks: list[nn.Module] = list(blocks)
        self.final_norm: nn.Module = _part(self.base, names.norm, what=f"{kind!r} norm")
        self.gates = self._in_blocks(names.gate, "gate")
        self.downs = self._in_blocks(names.down, "down")
        self.attention_outputs = self._in_blocks(names.heads, "heads")
        if _outputs(self.gates[0]) != self.d_neurons:
            raise InputError(
                f"{kind!r} gate {names.gate!r} has {_outputs(self.gates[0])} outputs for the "
                f"{self.d_neurons} neurons at {names.down!r}: it is not one gate per neuron"
            )

    def _in_blocks(self, path: str, role: str) -> list[nn.Module]:
        found = []
        for layer, block in enumerate(self.blocks):
            what = f"{self.model.config.model_type!r} {role} in block {layer}"
            found.append(_part(block, path, what=what))
            if not isinstance(found[-1], nn.Linear | Conv1D):
                raise InputError(
                    f"{what}: {path!r} is a {type(found[-1]).__name__} of {_children(found[-1])}, not a "
                    "linear projection"
                )
        return found

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def d_neurons(self) -> int:
        """Neurons of one layer: inputs of the down-projection."""
        return _inputs(self.downs[0])

    @property
    def heads(self) -> Heads:
        """Attention heads, as the configuration says and the weights bear out.

        Raises
        ------
        InputError
            If they contradict one another: heads of unlike widths, latent or gated attention.
        """
        config = self.model.config
        query = getattr(config, "num_attention_heads", None)
        if query is None:
            raise InputError(f"the configuration of {config.model_type!r} has no num_attention_heads")
        key_value = getattr(config, "num_key_value_heads", None) or query
        width = getattr(config, "head_dim", None) or config.hidden_size // query
        inside, output = self.names.heads.rpartition(".")[0], self.attention_outputs[0]
        attention = _part(self.blocks[0], inside, what="attention") if inside else self.blocks[0]
        projections = [part for part in attention.modules() if isinstance(part, nn.Linear | Conv1D)]
        projected = sum(_outputs(part) for part in projections if part is not output)
        if _inputs(output) != query * width or projected != (query + 2 * key_value) * width:
            raise InputError(
                f"{config.model_type!r} heads are not as its configuration says: {query} query and "
                f"{key_value} key-value heads of width {width}, but its {type(attention).__name__} projects "
                f"to {projected} and puts {_inputs(output)} together"
            )
        return Heads(query, key_value, width)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def unembed(self) -> Float[Tensor, "vocab d_model"]:
        """Read anew at each use: checkpoints are swapped under this object."""
        return self.model.get_output_embeddings().weight

    @property
    def unembed_bias(self) -> Float[Tensor, " vocab"] | None:
        """What CodeGen adds to its logits; None where there is no such thing."""
        return getattr(self.model.get_output_embeddings(), "bias", None)

    def run(
        self,
        input_ids: Int[Tensor, "batch position"],
        *,
        see: Mapping[Site, See],
        edit: Mapping[Site, Edit] | None = None,
        past: Cache | None = None,
        gradients: bool = False,
    ) -> None:
        """One forward pass of the base model, calling `see[site](site, layer, tensor)` on the way.

        Rows are right-padded, which is exact for causal attention even without a mask; the
        unembedding does not run, since no measure needs logits of every position at once.

        Parameters
        ----------
        see
            Layers of the residual stream are counted from 1, after the first block; those of what is inside
            blocks from 0.
        edit
            `edit[site](layer, tensor)` goes on in place of the tensor, at one of `EDITED`; what is seen there
            is what goes on.
        past
            Keys and values of the positions before `input_ids`, whose own are added to it.
        gradients
            Whether tensors keep the graph that gradients go back through. The weights want none, so it begins
            at the first tensor that an edit makes a leaf.

        Raises
        ------
        InputError
            If a site cannot be edited.
        """
        edit = edit or {}
        if wrong := [site for site in edit if site not in EDITED]:
            raise InputError(f"cannot edit {wrong[0]!r}; only {' or '.join(EDITED)}")
        with self._hooks(see, edit, shape=input_ids.shape), torch.set_grad_enabled(gradients):
            output = self.base(input_ids=input_ids, use_cache=past is not None, past_key_values=past)
            if Site.FINAL in see:
                see[Site.FINAL](Site.FINAL, self.n_layers, output.last_hidden_state)

    @contextmanager
    def _hooks(
        self, see: Mapping[Site, See], edit: Mapping[Site, Edit], *, shape: torch.Size
    ) -> Iterator[None]:
        handles = []

        def looking(site: Site, layer: int) -> Callable[[Tensor], None]:
            # Some MLPs, OPT's for one, see batch and position flattened.
            return lambda tensor: see[site](site, layer, tensor.reshape(*shape, -1))

        for layer in range(self.n_layers):
            # Edits before any look: hooks of one module run in the order in which they come.
            if Site.RESIDUAL in edit:
                hook = _instead(edit[Site.RESIDUAL], layer + 1)
                handles.append(self.blocks[layer].register_forward_hook(hook))
            if Site.NEURON in edit:
                hook = _instead_before(edit[Site.NEURON], layer, shape=shape)
                handles.append(self.downs[layer].register_forward_pre_hook(hook))
            if Site.RESIDUAL in see:
                hook = _after(looking(Site.RESIDUAL, layer + 1))  # layer l = after block l
                handles.append(self.blocks[layer].register_forward_hook(hook))
            if Site.GATE in see:
                handles.append(self.gates[layer].register_forward_hook(_after(looking(Site.GATE, layer))))
            if Site.NEURON in see:
                hook = _before(looking(Site.NEURON, layer))
                handles.append(self.downs[layer].register_forward_pre_hook(hook))
            if Site.ATTENTION in see:
                attention = self.blocks[layer].get_submodule(self.names.heads.rpartition(".")[0])
                hook = _before(looking(Site.ATTENTION, layer))
                handles.append(attention.register_forward_pre_hook(hook, with_kwargs=True))
            if Site.HEADS in see:
                hook = _before(looking(Site.HEADS, layer))
                handles.append(self.attention_outputs[layer].register_forward_pre_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def input_rows(projection: Any) -> Float[Tensor, "inputs outputs"]:
    """What each input of a linear projection adds to its output, in either orientation of weights."""
    weight = projection.weight.detach()
    return weight if isinstance(projection, Conv1D) else weight.T


def _part(root: nn.Module, path: str, *, what: str) -> Any:
    """Follow a path of names; where it ends too early, say what is there instead."""
    part: Any = root
    for name in path.split("."):
        inner = getattr(part, name, None)
        if inner is None:
            raise InputError(
                f"{what}: no {path!r}, since {type(part).__name__} has no {name!r}, only {_children(part)}"
            )
        part = inner
    return part


def _children(part: Any) -> str:
    names = [name for name, _ in part.named_children()] if isinstance(part, nn.Module) else []
    return ", ".join(names) or "no parts"


def _inputs(projection: Any) -> int:
    """Conv1D, which GPT-2 uses, stores its weight the other way round."""
    return int(projection.weight.shape[0 if isinstance(projection, Conv1D) else 1])


def _outputs(projection: Any) -> int:
    return int(projection.weight.shape[1 if isinstance(projection, Conv1D) else 0])


def _after(look: Callable[[Tensor], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        look(output[0] if isinstance(output, tuple) else output)

    return hook


def _instead(edit: Edit, layer: int) -> Callable[..., Any]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return edit(layer, output[0]), *output[1:]
        return edit(layer, output)

    return hook


def _instead_before(edit: Edit, layer: int, *, shape: torch.Size) -> Callable[..., Any]:
    def hook(_module: nn.Module, inputs: Any) -> Any:
        edited = edit(layer, inputs[0].reshape(*shape, -1))
        return edited.reshape(inputs[0].shape), *inputs[1:]

    return hook


def _before(look: Callable[[Tensor], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, inputs: Any, by_name: Mapping[str, Any] | None = None) -> None:
        look(inputs[0] if inputs else (by_name or {})["hidden_states"])

    return hook
