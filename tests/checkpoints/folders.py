"""Checkpoint folders of a few bytes: enough for what reads no weights, and no torch to write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def write_checkpoint(
    path: Path,
    *,
    family: str = "gpt2",
    width: int = 2,
    tokenizer: str = "words",
    log: list[dict[str, Any]] | None = None,
    global_step: int | None = None,
) -> Path:
    """One matrix, a configuration, a tokenizer and, with `log`, a `trainer_state.json`."""
    path.mkdir(parents=True)
    save_file({"weight": np.zeros((width, 2), np.float32)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": family}))
    (path / "tokenizer.json").write_text(json.dumps({"name": tokenizer}))
    if log is not None:
        state = {"log_history": log} | ({} if global_step is None else {"global_step": global_step})
        (path / "trainer_state.json").write_text(json.dumps(state))
    return path


def write_revision(cache: Path, repo: str, revision: str, *, commit: str, **changes: Any) -> Path:
    """A revision as the hub's cache keeps it: a ref, a snapshot of links, and the files as blobs."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(commit)
    snapshot = write_checkpoint(folder / "snapshots" / commit, **changes)
    (folder / "blobs").mkdir(exist_ok=True)
    for file in list(snapshot.iterdir()):
        blob = folder / "blobs" / f"{commit}-{file.name}"
        file.rename(blob)
        file.symlink_to(Path("..", "..", "blobs", blob.name))
    return snapshot
