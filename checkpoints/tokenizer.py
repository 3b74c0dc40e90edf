"""A tokenizer by itself, named as a user has it: a folder, a `tokenizer.json`, or a model on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from babelscope.checkpoints import hub
from babelscope.checkpoints.agreement import tokenizer_hash
from babelscope.checkpoints.layouts import shown
from babelscope.core.errors import InputError
from babelscope.core.files import read_json

CONTEXT = ("n_positions", "max_position_embeddings")  # what configurations call it


class Opened(NamedTuple):
    """A fast tokenizer, and how many tokens the model beside it takes; None where nothing says so."""

    tokenizer: Any
    context: int | None


def open_tokenizer(place: str) -> Opened:
    """The tokenizer at `place`; a model on the hub is taken from the cache, or its small files are fetched.

    Raises
    ------
    InputError
        If nothing is there, or no fast tokenizer that can be read.
    """
    path = Path(place)
    if path.is_file():
        return Opened(_read(path), None)
    if not path.is_dir():
        try:
            path = hub.fetch(place, "main", weights=False)
        except InputError as error:
            raise InputError(
                f"{shown(place)!r} is not a folder, a tokenizer.json or a model on the hub: {error}"
            ) from None
    if tokenizer_hash(path) is None:
        raise InputError(f"{shown(path)} has no tokenizer; give the folder of a checkpoint or a tokenizer")
    config = path / "config.json"
    return Opened(_read(path), context_in(read_json(config)) if config.exists() else None)


def _read(path: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        if path.is_file():
            return PreTrainedTokenizerFast(tokenizer_file=str(path))
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - the Rust library raises no narrower one
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"no tokenizer can be read from {shown(path)}: {reason}") from None
    if not tokenizer.is_fast:
        raise InputError(f"{shown(path)}: a fast tokenizer (tokenizer.json) is needed")
    return tokenizer


def context_in(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model of this configuration takes; None where it does not say."""
    return next((config[name] for name in CONTEXT if config.get(name)), None)
