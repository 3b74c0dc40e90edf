"""One checkpoint of a training run: its place on disk or on the hub, and what was recorded about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from babelscope.checkpoints import hub
from babelscope.checkpoints.agreement import tokenizer_hash
from babelscope.checkpoints.layouts import Place
from babelscope.checkpoints.weights import own_files
from babelscope.core.errors import InputError
from babelscope.core.files import read_json

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Checkpoint:
    """One step's weights.

    Attributes
    ----------
    tokens
        Tokens per language seen in training so far, where the run recorded them.
    """

    place: Place
    tokens: dict[str, int] | None = field(default=None, compare=False)

    @property
    def step(self) -> int:
        return self.place.step

    @property
    def name(self) -> str:
        """Its folder's, or its revision's on the hub."""
        return self.place.name

    @property
    def is_here(self) -> bool:
        """Whether its files are on this machine, so that `path` fetches nothing."""
        return self.place.path is not None or "path" in self.__dict__

    @cached_property
    def path(self) -> Path:
        """Its folder; a revision on the hub is fetched when this is first asked for.

        Raises
        ------
        InputError
            If it cannot be fetched.
        """
        return self.place.path or hub.fetch(str(self.place.repo), self.name)

    @property
    def tokens_seen(self) -> int | None:
        """Tokens seen in training so far: as recorded, else as the name says, which may be rounded."""
        return sum(self.tokens.values()) if self.tokens else self.place.tokens_seen

    @property
    def n_bytes(self) -> int:
        """Of its weight files; of an adapter, its own."""
        return sum(file.stat().st_size for file in own_files(self.path))

    def to_transformer_lens(self, *, dtype: str = "float32", device: str | None = None) -> TransformerBridge:
        """This checkpoint as a `TransformerBridge`, for everything that TransformerLens offers.

        Parameters
        ----------
        dtype
            Of the weights, as torch names it.
        device
            Where it runs, as torch names it; default: the first GPU if there is one.

        Raises
        ------
        InputError, BrokenWeightsError
            If there is no such dtype, if the checkpoint cannot be opened or has no tokenizer, or if
            TransformerLens does not know the architecture.
        """
        import torch
        from transformers import AutoTokenizer

        from babelscope.checkpoints.opening import dtype_named, open_model
        from babelscope.interp.transformer_lens import take_over

        wanted = dtype_named(dtype)
        if tokenizer_hash(self.path) is None:
            raise InputError(f"{self.path} has no tokenizer; copy its files there")
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = open_model(self.path, what=self.name, dtype=wanted)
        tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        return take_over(model.to(place).eval(), tokenizer)


def recorded_tokens(checkpoint: Path) -> dict[str, int] | None:
    """Tokens per language seen in training up to a checkpoint, where this project wrote it.

    Raises
    ------
    InputError
        If what was written cannot be read.
    """
    marker = checkpoint / "babelscope.json"
    recorded = read_json(marker) if marker.exists() else {}
    if not isinstance(recorded, dict):
        raise InputError(f"{marker.name} is not a JSON object")
    return recorded.get("tokens")
