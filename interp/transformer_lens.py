"""The way over to TransformerLens 4: a `TransformerBridge` with its caches, hooks and tools.

Nothing in this project needs it, and no other file imports it: it takes seconds, silences transformers'
logger, and rebuilds the model it is given. Here the import leaves no trace and the bridge gets a model of
its own. Weights stay raw: nothing is folded or centred unless `bridge.enable_compatibility_mode()` is called.

    blocks.{l}.hook_out         output of a block                 Site.RESIDUAL, layer l + 1
    blocks.{l}.mlp.hook_pre     pre-activation of the gate        Site.GATE, layer l
    blocks.{l}.mlp.hook_post    input of the down-projection      Site.NEURON, layer l

TransformerLens puts a BOS token before strings; give it token ids where positions matter.
"""

from __future__ import annotations

import copy
import logging
import warnings
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from babelscope.core.errors import InputError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def to_transformer_lens(model: Any, tokenizer: Any) -> TransformerBridge:
    """A bridge to a copy of `model`; neither argument is changed.

    Parameters
    ----------
    model
        A Hugging Face causal language model; for a moment there are two of it.
    tokenizer
        Its tokenizer.

    Raises
    ------
    InputError
        If TransformerLens does not know the architecture.
    """
    return take_over(copy.deepcopy(model), tokenizer)


def take_over(model: Any, tokenizer: Any) -> TransformerBridge:
    """As `to_transformer_lens`, but `model` itself becomes the bridge's and is of no other use."""
    from transformers import AutoTokenizer

    bridge = _bridge()
    # What was built from a configuration alone does not say its own class, by which adapters are chosen.
    model.config.architectures = [type(model).__name__]
    with TemporaryDirectory() as folder:
        # It may be read again by its name, which must therefore be a place on this machine.
        tokenizer.save_pretrained(folder)
        try:
            return bridge.boot_transformers(
                type(model).__name__,
                hf_model=model,
                tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
                device=model.device,
                dtype=model.dtype,
            )
        except ValueError as error:
            if "supported architecture" not in str(error):
                raise
            raise InputError(f"TransformerLens does not know {type(model).__name__}") from None


def _bridge() -> type[TransformerBridge]:
    """The class, imported without what its package does to transformers' logger and to warnings."""
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        with warnings.catch_warnings():
            from transformer_lens.model_bridge import TransformerBridge
    finally:
        logger.setLevel(level)
    return TransformerBridge
