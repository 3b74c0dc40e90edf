"""Where each architecture keeps the parts that interpretability needs.

The seven families differ in four names only, so plain Hugging Face models and forward hooks carry
everything: nothing is wrapped, renamed or converted, and weights can be swapped under the hooks.
A new family is one more row of `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from babelscope.core.errors import InputError


class Site(StrEnum):
    """Where a hook can look; every tensor there is (batch, position, width)."""

    RESIDUAL = "residual"  # output of a block, before the final norm
    GATE = "gate"  # pre-activation of the MLP's gate, or of its only input layer
    NEURON = "neuron"  # input of the down-projection: a neuron's output
    FINAL = "final"  # after the final norm: what the unembedding reads


@dataclass(frozen=True)
class Names:
    """Attribute paths of one family: under the base model, then under a block."""

    blocks: str
    norm: str
    gate: str
    down: str


FAMILIES: dict[str, Names] = {
    "gpt2": Names("h", "ln_f", "mlp.c_fc", "mlp.c_proj"),
    "gpt_bigcode": Names("h", "ln_f", "mlp.c_fc", "mlp.c_proj"),
    "codegen": Names("h", "ln_f", "mlp.fc_in", "mlp.fc_out"),
    "gpt_neox": Names("layers", "final_layer_norm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    "llama": Names("layers", "norm", "mlp.gate_proj", "mlp.down_proj"),
    "qwen2": Names("layers", "norm", "mlp.gate_proj", "mlp.down_proj"),
    "starcoder2": Names("layers", "norm", "mlp.c_fc", "mlp.c_proj"),
}

See = Callable[[Site, int, Tensor], None]


class Anatomy:
    """One causal language model, with its parts named.

    Parameters
    ----------
    model
        A Hugging Face causal language model of one of `FAMILIES`, in `eval()` mode: dropout would
        silently make every measure noisy.

    Raises
    ------
    InputError
        If the architecture is unknown, or lacks a part; the message names it.
    """

    def __init__(self, model: Any):
        kind = model.config.model_type
        if kind not in FAMILIES:
            raise InputError(
                f"architecture {kind!r} is not known; known are {', '.join(FAMILIES)}. "
                "A new one is a row of babelscope.interp.anatomy.FAMILIES"
            )
        if model.training:
            raise InputError(
                "the model is in training mode, where dropout falsifies measures; call model.eval()"
            )
        names = FAMILIES[kind]
        self.model = model
        self.base = model.base_model
        self.blocks: list[nn.Module] = list(_part(self.base, names.blocks, kind))
        self.final_norm: nn.Module = _part(self.base, names.norm, kind)
        self.gates: list[nn.Module] = [_part(block, names.gate, kind) for block in self.blocks]
        self.downs: list[nn.Module] = [_part(block, names.down, kind) for block in self.blocks]

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def d_neurons(self) -> int:
        """Neurons of one layer: rows of the down-projection (Conv1D stores its weight transposed)."""
        down: Any = self.downs[0]
        return int(down.in_features if isinstance(down, nn.Linear) else down.weight.shape[0])

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def unembed(self) -> Float[Tensor, "vocab d_model"]:
        """Read anew at each use: checkpoints are swapped under this object."""
        return self.model.get_output_embeddings().weight

    @property
    def unembed_bias(self) -> Float[Tensor, " vocab"] | None:
        return self.model.get_output_embeddings().bias

    def run(self, input_ids: Int[Tensor, "batch position"], *, see: Mapping[Site, See]) -> None:
        """One forward pass of the base model, calling `see[site](site, layer, tensor)` on the way.

        Rows are right-padded, which is exact for causal attention even without a mask; the
        unembedding does not run, since no measure needs logits of every position at once.
        """
        with self._hooks(see), torch.no_grad():
            output = self.base(input_ids=input_ids, use_cache=False)
            if Site.FINAL in see:
                see[Site.FINAL](Site.FINAL, self.n_layers, output.last_hidden_state)

    @contextmanager
    def _hooks(self, see: Mapping[Site, See]) -> Iterator[None]:
        handles = []
        for layer in range(self.n_layers):
            if Site.RESIDUAL in see:
                hook = _after(see[Site.RESIDUAL], Site.RESIDUAL, layer + 1)  # layer l = after block l
                handles.append(self.blocks[layer].register_forward_hook(hook))
            if Site.GATE in see:
                hook = _after(see[Site.GATE], Site.GATE, layer)
                handles.append(self.gates[layer].register_forward_hook(hook))
            if Site.NEURON in see:
                hook = _before(see[Site.NEURON], Site.NEURON, layer)
                handles.append(self.downs[layer].register_forward_pre_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _part(root: Any, path: str, kind: str) -> Any:
    try:
        return attrgetter(path)(root)
    except AttributeError:
        raise InputError(f"{kind!r} model has no {path!r} under {type(root).__name__}") from None


def _after(see: See, site: Site, layer: int) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        see(site, layer, output[0] if isinstance(output, tuple) else output)

    return hook


def _before(see: See, site: Site, layer: int) -> Callable[..., None]:
    def hook(_module: nn.Module, inputs: Any) -> None:
        see(site, layer, inputs[0])

    return hook
