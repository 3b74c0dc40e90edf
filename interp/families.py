"""What each architecture calls its parts: the only place that knows a family by name.

Plain Hugging Face models differ, for interpretability, in five attribute paths; `register` adds a family
in a few lines (docs/architectures.md). Importing this needs no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Projections:
    """Where an attention makes its queries, keys and values; `attention` reads it.

    Attributes
    ----------
    modules
        Paths under a block: one projection for all, or those of the queries, the keys and the values.
    order
        Of the outputs of one for all: all queries, all keys, all values ("parts"); query, key and value of
        head after head ("heads"); queries, values and keys of a quarter of the heads after the other
        ("quarters"). Each of three has its heads one after the other.
    rotary
        Which dimensions of a head a rotary embedding turns together: one with the one half of them further
        ("halves"), or neighbours ("neighbours"). None where positions come in another way.
    """

    modules: tuple[str] | tuple[str, str, str]
    order: Literal["parts", "heads", "quarters"] = "parts"
    rotary: Literal["halves", "neighbours"] | None = None


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
    projections
        Where queries, keys and values come from; only what looks at these needs it.
    """

    blocks: str
    norm: str
    gate: str
    down: str
    heads: str
    projections: Projections | None = None


_FUSED = Projections(("attn.c_attn",))
_SEPARATE = Projections(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), rotary="halves")

FAMILIES: dict[str, Names] = {
    "gpt2": Names("h", "ln_f", "mlp.c_fc", "mlp.c_proj", "attn.c_proj", _FUSED),
    "gpt_bigcode": Names("h", "ln_f", "mlp.c_fc", "mlp.c_proj", "attn.c_proj", _FUSED),
    "codegen": Names(
        "h",
        "ln_f",
        "mlp.fc_in",
        "mlp.fc_out",
        "attn.out_proj",
        Projections(("attn.qkv_proj",), order="quarters", rotary="neighbours"),
    ),
    "gpt_neox": Names(
        "layers",
        "final_layer_norm",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
        "attention.dense",
        Projections(("attention.query_key_value",), order="heads", rotary="halves"),
    ),
    "llama": Names("layers", "norm", "mlp.gate_proj", "mlp.down_proj", "self_attn.o_proj", _SEPARATE),
    "qwen2": Names("layers", "norm", "mlp.gate_proj", "mlp.down_proj", "self_attn.o_proj", _SEPARATE),
    "starcoder2": Names("layers", "norm", "mlp.c_fc", "mlp.c_proj", "self_attn.o_proj", _SEPARATE),
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


def custom_names(model_type: str) -> dict[str, Any]:
    """Names that were registered for a family, empty for those that come with the project.

    They decide what is measured, so they are part of the key of a result.
    """
    names = FAMILIES.get(model_type)
    return {} if names is None or names == _OWN.get(model_type) else asdict(names)
