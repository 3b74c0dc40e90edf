"""What the checkpoints of a series share: an architecture, and a tokenizer that token ids refer to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from babelscope.checkpoints.weights import model_folder, tensors
from babelscope.core.errors import InputError
from babelscope.core.files import digest, read_json

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model")


@dataclass(frozen=True)
class Model:
    """What a checkpoint is of; `tokenizer` is a hash, and None where it has no files of its own."""

    architecture: str | None
    shapes: dict[str, tuple[int, ...]]
    tokenizer: str | None


def model_in(path: Path) -> Model:
    """What a checkpoint is of, from its headers alone.

    Raises
    ------
    BrokenWeightsError, InputError, OSError
        If its weights, its configuration or its tokenizer cannot be read.
    """
    shapes = {part.name: part.shape for part in tensors(path)}
    config = read_json(model_folder(path) / "config.json")
    if not isinstance(config, dict):
        raise InputError("config.json is not a JSON object")
    return Model(config.get("model_type"), shapes, tokenizer_hash(path))


def tokenizer_hash(path: Path) -> str | None:
    """What names the tokenizer in a folder; None if there is none."""
    present = [path / name for name in TOKENIZER_FILES if (path / name).exists()]
    contents = [
        (file.name, digest(file.read_text(encoding="utf-8", errors="surrogateescape"))) for file in present
    ]
    return digest(contents) if present else None


def one_architecture(models: Mapping[str, Model], *, of: str) -> None:
    """Refuse a mixture of models: its curves would join what does not belong together.

    Parameters
    ----------
    models
        By the names that a message would give them.
    of
        What should be one model.

    Raises
    ------
    InputError
        If architectures or shapes differ.
    """
    (first, expected), *others = models.items()
    for name, model in others:
        if (model.architecture, model.shapes) != (expected.architecture, expected.shapes):
            raise InputError(
                f"{first} ({expected.architecture}) and {name} ({model.architecture}) are different "
                f"architectures; {of}"
            )


def other_tokenizers(models: Mapping[str, Model]) -> dict[str, str]:
    """Those that have another tokenizer than most, each with one of the others.

    Raises
    ------
    InputError
        If no tokenizer is that of most: nothing says which is the series'.
    """
    votes = Counter(model.tokenizer for model in models.values() if model.tokenizer).most_common(2)
    if len(votes) < 2:
        return {}
    one, other = (next(name for name in models if models[name].tokenizer == hashed) for hashed, _ in votes)
    if votes[0][1] == votes[1][1]:
        raise InputError(
            f"{one} and {other} have different tokenizers, each shared by equally many checkpoints"
        )
    usual = models[one].tokenizer
    return {name: one for name, model in models.items() if model.tokenizer not in (usual, None)}
