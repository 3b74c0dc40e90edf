"""A checkpoint opened by transformers, and nothing that transformers would pass over in silence.

Weights that are missing would be left as initialised, with no more than a warning; so would an adapter's.
Nothing is fetched and no code of a checkpoint is run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from babelscope.checkpoints.reading import refuse_non_finite
from babelscope.checkpoints.weights import is_adapter, model_folder, tensors
from babelscope.core.errors import InputError

# Settings that say nothing about what a model in eval() computes from its weights.
_IDLE = re.compile(
    r"^_|version$|dtype$|^architectures$|^use_cache$|initializer|dropout|pdrop$|token_id$|^loss|gradient"
)
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def dtype_named(name: str) -> torch.dtype:
    """What models compute in, by torch's name; an `InputError` if it is none of torch's floating types."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"torch has no dtype {name!r} for weights; float32 and bfloat16 are the usual ones")
    return found


def open_model(path: Path, *, what: str, dtype: torch.dtype) -> Any:
    """The model in a folder, on the CPU; an adapter is merged into its base.

    Parameters
    ----------
    path
        The checkpoint.
    what
        How to call it.
    dtype
        Of the weights in memory.

    Raises
    ------
    BrokenWeightsError
        If its files are damaged or incomplete.
    InputError
        If transformers cannot open it, or if weights are missing or not finite.
    """
    list(tensors(path))  # says in words what is broken
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model_folder(path), dtype=dtype, output_loading_info=True, **_LOCAL
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} cannot be opened: {first_line(error)}") from None
    model, info = loaded
    if info["missing_keys"]:
        raise InputError(f"{what} lacks {', '.join(sorted(info['missing_keys'])[:3])}")
    if is_adapter(path):
        model = _merged(model, path, what=what)
    refuse_non_finite(model.state_dict(), what=what)
    return model


def config_of(path: Path, *, what: str) -> Any:
    """The configuration of the model in a folder; an `InputError` if there is none that can be used."""
    try:
        return AutoConfig.from_pretrained(model_folder(path), **_LOCAL)
    except (OSError, ValueError) as error:
        raise InputError(f"{what} has no usable config.json: {first_line(error)}") from None


def settings_of(path: Path, *, what: str) -> dict[str, Any]:
    """What of its configuration decides what the model computes from its weights."""
    settings = config_of(path, what=what).to_dict()
    return {key: value for key, value in settings.items() if not _IDLE.search(key)}


def first_line(error: Exception) -> str:
    """What an error of a library says first."""
    return str(error).strip().partition("\n")[0]


def _merged(base: Any, adapter: Path, *, what: str) -> Any:
    """The base with the adapter's changes added to its weights: a plain model again."""
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError:
        raise InputError(
            f"{what} is a PEFT adapter; install what merges it with `pip install 'babelscope[peft]'`"
        ) from None
    try:
        adapted = PeftModel.from_pretrained(base, adapter)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} does not fit its base: {first_line(error)}") from None
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    missing = sorted(wanted - {tensor.name for tensor in tensors(adapter)})
    if missing:  # peft would leave them as initialised
        raise InputError(f"{what} lacks {', '.join(missing[:3])}")
    return adapted.merge_and_unload()
