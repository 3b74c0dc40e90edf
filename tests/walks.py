"""Simulated training: what weights do between checkpoints, without a gradient.

    x(t) = x_0 + drift · direction · (1 − e^{−3c}) + diffusion · W(c) + noise · √(learning rate) · ε_t

with c the learning rate summed up to t (warm-up over the first 2 %, linear decay from 80 % on if wanted), W a
Brownian motion and ε_t independent at every checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.conftest import byte_tokenizer, make_model

SPACINGS = {
    "even": list(range(0, 30_000, 1000)),
    "log": [0, *sorted({round(s) for s in np.geomspace(1, 20_000, 31)})],
    "log, then even": [0, *(2**k for k in range(10)), *range(1000, 20_000, 1000)],
}
# drift, diffusion, noise: in units of the initial weights
REGIMES = {
    "drift": (1.0, 0.0, 0.02),
    "random walk": (0.0, 1.0, 0.0),
    "both": (0.5, 0.5, 0.05),
    "far from the start": (1.0, 3.0, 0.1),
    "mostly noise": (0.1, 0.1, 0.2),
}


def schedule(steps: Sequence[int], *, decay: bool) -> tuple[Any, Any]:
    """Learning rate, as a share of its highest, and its running integral, which ends at 1."""
    t = np.linspace(0, 1, 20_001)
    rate = np.minimum(1, t / 0.02) * (np.minimum(1, (1 - t) / 0.2) if decay else 1)
    clock = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    at = np.array(steps) / steps[-1]
    return np.interp(at, t, rate), np.interp(at, t, clock / clock[-1])


def walk(
    start: Sequence[Any],
    steps: Sequence[int],
    *,
    seed: int,
    regime: tuple[float, float, float],
    decay: bool = False,
    rank: int | None = None,
) -> list[Any]:
    """Each tensor (flat) at every step: (checkpoint, entry). Noise of `rank` moves all tensors together."""
    rng = np.random.default_rng(seed)
    drift, diffusion, noise = regime
    rate, clock = schedule(steps, decay=decay)
    common = rng.normal(size=(len(steps), rank)) if rank else None
    paths = []
    for initial in start:
        size = initial.std() or 1.0
        jumps = rng.normal(size=(len(steps), initial.size)) * np.sqrt(np.diff(clock, prepend=0))[:, None]
        own = rng.normal(size=(len(steps), initial.size))
        if rank:
            own = common @ rng.normal(size=(rank, initial.size)) / np.sqrt(rank)
        moved = drift * (1 - np.exp(-3 * clock))[:, None] * rng.normal(size=initial.size)
        moved = moved + diffusion * jumps.cumsum(0) + noise * np.sqrt(rate)[:, None] * own
        paths.append((initial + size * moved).astype(np.float32))
    return paths


@cache
def _template(family: str, folder: Path) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """A random model's tensors and the text files beside them."""
    make_model(family).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    texts = {file.name: file.read_text() for file in folder.glob("*.json")}
    return load_file(folder / "model.safetensors"), texts


def write_weights(checkpoint: Path, tensors: Mapping[str, Any]) -> None:
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(contiguous, checkpoint / "model.safetensors", metadata={"format": "pt"})


def write_series(
    root: Path,
    steps: Sequence[int],
    *,
    scratch: Path,
    seed: int = 0,
    regime: tuple[float, float, float] = REGIMES["both"],
    decay: bool = False,
    family: str = "gpt2",
) -> Path:
    """A directory of `checkpoint-N` folders along a walk from a random model."""
    tensors, texts = _template(family, scratch)
    paths = walk([t.ravel() for t in tensors.values()], steps, seed=seed, regime=regime, decay=decay)
    for k, step in enumerate(steps):
        folder = root / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
        log = [{"step": s, "loss": 2.0, "learning_rate": 1e-3} for s in steps if 0 < s <= step]
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
        shaped = zip(tensors.items(), paths, strict=True)
        write_weights(folder, {name: path[k].reshape(t.shape) for (name, t), path in shaped})
    return root


def blank_out(file: Path) -> None:
    """Zero the weights but keep size, mtime and inode: whoever reads them gets other results."""
    before = file.stat()
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    with file.open("r+b") as handle:
        handle.seek(header)
        handle.write(bytes(len(data) - header))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
