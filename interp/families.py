"""What each architecture calls its parts: the only place that knows a family by name.

Plain Hugging Face models differ, for interpretability, in five attribute paths; `register` adds a family
in a few lines (docs/architectures.md). Importing this needs no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Names:
    """Attribute paths of one family, dots between parts.

    Attributes
    ----------
    blocks
        The list of blocks, under the base model (`model.base_model`).
    norm
        The final norm, under the base model.
    gate
        Under a block: the projection whose output, before the activation function, decides whether a neuron
        fires: the MLP's gate, or the input layer of an MLP without one.
    down
        Under a block: the MLP's down-projection; its input is the neurons' output.
    heads
        Under a block: the attention's output projection; its input is the heads, side by side.
    """

    blocks: str
    norm: str
    gate: str
    down: str
    heads: str


FAMILIES: dict[str, Names] = {
    "gpt2": Names("h", "ln_f", "mlp.c_fc", "mlp.c_proj", "attn.c_proj"),
    "gpt_bigcode": Names("h", "ln_f", "mlp.c_fc", "mlp.c_proj", "attn.c_proj"),
    "codegen": Names("h", "ln_f", "mlp.fc_in", "mlp.fc_out", "attn.out_proj"),
    "gpt_neox": Names(
        "layers", "final_layer_norm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "attention.dense"
    ),
    "llama": Names("layers", "norm", "mlp.gate_proj", "mlp.down_proj", "self_attn.o_proj"),
    "qwen2": Names("layers", "norm", "mlp.gate_proj", "mlp.down_proj", "self_attn.o_proj"),
    "starcoder2": Names("layers", "norm", "mlp.c_fc", "mlp.c_proj", "self_attn.o_proj"),
}
_OWN = dict(FAMILIES)


def register(model_type: str, names: Names) -> None:
    """Make an architecture known, by the `model_type` of its `config.json`.

    Whether the names are right shows when a model is opened: every part is looked for, widths are compared,
    and before a checkpoint is measured its lens must reproduce its logits.

    Examples
    --------
    >>> register("mistral", FAMILIES["llama"])
    """
    FAMILIES[model_type] = names


def custom_names(model_type: str) -> dict[str, str]:
    """Names that were registered for a family, empty for those that come with the project.

    They decide what is measured, so they are part of the key of a result.
    """
    names = FAMILIES.get(model_type)
    return {} if names is None or names == _OWN.get(model_type) else asdict(names)
