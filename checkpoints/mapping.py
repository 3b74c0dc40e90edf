"""Which tensor on disk fills which entry of a model's state, read off a model that `from_pretrained` loaded.

Names differ between disk and memory: a base model's prefix may be there or not, and some parts are renamed
(GPT-NeoX's `embed_out` is `lm_head` in memory). A name proposes an entry, up to the prefix; a tensor whose
name proposes none may fill an entry that is still empty. Either way the values decide: the entry must equal
the tensor exactly, cast to its dtype, every entry must be filled, and each only once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from babelscope.checkpoints.reading import DTYPES, read_tensor
from babelscope.checkpoints.weights import tensors

Layout = frozenset[tuple[str, str, tuple[int, ...]]]

# Constants that older versions of transformers saved with the weights, and that are computed now.
_CONSTANTS = re.compile(r"\b(attn|attention)\.(bias|masked_bias|causal_mask)$|\brotary_emb\.inv_freq$")


def layout_of(directory: Path) -> Layout:
    """Names, dtypes and shapes on disk; checkpoints that agree in them are read in the same way."""
    return frozenset((tensor.name, tensor.dtype, tensor.shape) for tensor in tensors(directory))


def aliases(model: Any) -> dict[str, str]:
    """Every entry of a model's state, and the first that is the same tensor: tied weights are one."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def mapping_of(model: Any, directory: Path) -> dict[str, str] | None:
    """The entry of `model`'s state that each tensor in `directory` fills, tied entries by their first name.

    None if the values do not bear out that the model is these tensors, each once and no other: then they were
    merged, split or transposed on the way, or one entry is on disk twice.
    """
    state, entries = model.state_dict(), aliases(model)
    prefix = f"{model.base_model_prefix}."
    mapping: dict[str, str] = {}
    unnamed: list[tuple[str, Tensor]] = []
    empty = set(entries.values())
    for tensor in tensors(directory):
        if tensor.dtype not in DTYPES:
            return None
        name, value = tensor.name, read_tensor(tensor)
        proposed = [n for n in (name, prefix + name, name.removeprefix(prefix)) if n in entries]
        if not proposed:
            unnamed.append((name, value))
            continue
        entry = entries[proposed[0]]
        if entry not in empty or not _equal(state[entry], value):
            return None
        mapping[name] = entry
        empty.remove(entry)
    for name, value in unnamed:
        fitting = [entry for entry in empty if _equal(state[entry], value)]
        if len(fitting) == 1:
            mapping[name] = fitting[0]
            empty.remove(fitting[0])
        elif fitting or not _CONSTANTS.search(name):
            return None
    return None if empty else mapping


def _equal(entry: Tensor, value: Tensor) -> bool:
    alike = entry.shape == value.shape and entry.is_contiguous()  # it is filled as one run of memory
    return alike and torch.equal(entry, value.to(entry.dtype))
