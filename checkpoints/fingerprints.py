"""Which weights a checkpoint holds, whatever its files are called.

    tensor      = blake2b of its bytes
    fingerprint = blake2b over the sorted (name, dtype, shape, hash) of every tensor

It does not depend on how tensors are spread over shards, and needs no torch for safetensors. An adapter's
combines its base's, its settings and its own tensors'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from babelscope.checkpoints.weights import (
    BrokenWeightsError,
    Tensor,
    adapter_settings,
    is_adapter,
    model_folder,
    tensors,
    weight_files,
)
from babelscope.core.files import digest, read_json, write_json

CHUNK = 1 << 20  # bytes read at a time


def tensor_fingerprints(directory: Path) -> dict[str, str]:
    """Hash of every tensor's bytes, by name; of an adapter, its own tensors'.

    Raises
    ------
    BrokenWeightsError
        As for `tensors`.
    """
    return {tensor.name: _hash(tensor) for tensor in tensors(directory)}


def fingerprint(directory: Path) -> str:
    """What these weights are; `BrokenWeightsError` as for `tensors`."""
    return _combined(directory, tensor_fingerprints(directory), fingerprint)


class Fingerprints:
    """Fingerprints cached by (path, size, mtime, inode) of the weight files.

    Parameters
    ----------
    cache
        JSON file of the checkpoints' fingerprints; those of tensors go one file per checkpoint into the
        folder of the same name. Written after each new one, so that hashing is never repeated.
    """

    def __init__(self, cache: Path):
        self._cache = cache
        self._known: dict[str, str] = read_json(cache) if cache.exists() else {}

    def of(self, directory: Path) -> str:
        """The fingerprint of a checkpoint; `BrokenWeightsError` as for `tensors`."""
        key = _key(directory)
        if key not in self._known:
            self._known[key] = _combined(directory, self.tensors_of(directory), self.of)
            write_json(self._cache, self._known)
        return self._known[key]

    def tensors_of(self, directory: Path) -> dict[str, str]:
        """`tensor_fingerprints` of a checkpoint."""
        file = self._cache.with_suffix("") / f"{_key(directory)}.json"
        if not file.exists():
            write_json(file, tensor_fingerprints(directory))
        return read_json(file)


def _key(directory: Path) -> str:
    stats = [(file.name, file.stat()) for file in weight_files(directory)]
    named: list[Any] = [str(directory), [(n, s.st_size, s.st_mtime_ns, s.st_ino) for n, s in stats]]
    if is_adapter(directory):
        named.append(adapter_settings(directory))
    return digest(named)


def _combined(directory: Path, hashes: dict[str, str], base_of: Callable[[Path], str]) -> str:
    own = digest(sorted([t.name, t.dtype, t.shape, hashes[t.name]] for t in tensors(directory)))
    if not is_adapter(directory):
        return own
    return digest([base_of(model_folder(directory)), adapter_settings(directory), own])


def _hash(tensor: Tensor) -> str:
    content = hashlib.blake2b(digest_size=16)
    for chunk in _chunks(tensor):
        content.update(chunk)
    return content.hexdigest()


def _chunks(tensor: Tensor) -> Iterator[Any]:
    if tensor.start is None or tensor.stop is None:
        import torch

        yield tensor.values.contiguous().flatten().view(torch.uint8).numpy()
        return
    with open(tensor.file, "rb") as handle:
        handle.seek(tensor.start)
        for start in range(tensor.start, tensor.stop, CHUNK):
            chunk = handle.read(min(CHUNK, tensor.stop - start))
            if len(chunk) < min(CHUNK, tensor.stop - start):
                raise BrokenWeightsError(f"{tensor.file.name} is being written: {tensor.name} came out short")
            yield chunk
