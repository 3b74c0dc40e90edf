"""What a model writes with a set of neurons switched off or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from babelscope.core.errors import InputError
from babelscope.interp.ablation import Mode, change, steered

if TYPE_CHECKING:
    from babelscope.interp.ablation import Members
    from babelscope.interp.anatomy import Anatomy

MODES = (Mode.ZERO, Mode.AMPLIFY)  # those that need no text to know the neurons' usual outputs


def continuations(
    anatomy: Anatomy, tokenizer: Any, prompt: str, members: Members, mode: Mode | str, *, tokens: int
) -> tuple[str, str]:
    """What follows a prompt, greedily: from the model as it is, and with the set changed.

    Parameters
    ----------
    members
        The set: (layer, neuron).
    mode
        "zero" or "amplify".
    tokens
        To be written, at most.

    Raises
    ------
    InputError
        If the mode is another, or the prompt is empty or leaves no room in the model's context.
    """
    if mode not in MODES:
        raise InputError(f"cannot steer by {str(mode)!r} here; give {' or '.join(MODES)}")
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    context = getattr(anatomy.model.config, "max_position_embeddings", None) or len(ids) + tokens
    if not ids or len(ids) + tokens > context:
        raise InputError(
            f"the prompt {prompt[:24]!r} has {len(ids)} tokens and {tokens} are to be written; it needs"
            f" one to go on from, and takes {context} in all"
        )
    usual = _written(anatomy, tokenizer, ids, tokens)
    with steered(anatomy, change(anatomy, members, Mode(mode))):
        return usual, _written(anatomy, tokenizer, ids, tokens)


def _written(anatomy: Anatomy, tokenizer: Any, ids: list[int], tokens: int) -> str:
    import torch

    from babelscope.interp.generation import without_defaults

    given = torch.as_tensor(ids, device=anatomy.device)[None]
    with torch.inference_mode(), without_defaults(anatomy.model):
        found = anatomy.model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=tokens
        )
    return tokenizer.decode(found[0, len(ids) :])
