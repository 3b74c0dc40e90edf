"""Which weights a checkpoint holds, whatever its files are called.

    tensor      = blake2b of its bytes
    fingerprint = blake2b over the sorted (name, dtype, shape, hash) of every tensor

It does not depend on how tensors are spread over shards, and needs no torch for safetensors. An adapter's
combines its base's, its settings and its own tensors'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
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

CHUNK = 1 << 20  # bytes; a multiple of every item's size


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
    folder
        Holds one file per checkpoint, so that processes that share it never undo one another's work.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def of(self, directory: Path) -> str:
        """The fingerprint of a checkpoint, hashed once; `BrokenWeightsError` as for `tensors`."""
        if not self.knows(directory):
            return self.keep(directory, tensor_fingerprints(directory))
        return read_json(self._file(directory))

    def knows(self, directory: Path) -> bool:
        """Whether `of` reads no weights."""
        return self._file(directory).exists()

    def keep(self, directory: Path, hashes: Mapping[str, str]) -> str:
        """Store and return what `tensor_fingerprints` of a checkpoint make up."""
        found = _combined(directory, hashes, self.of)
        write_json(self._file(directory), found)
        return found

    def _file(self, directory: Path) -> Path:
        return self._folder / f"{key_of(directory)}.json"


def key_of(directory: Path) -> str:
    """What names the present weight files of a checkpoint without reading them.

    Raises
    ------
    BrokenWeightsError
        If they cannot be found.
    """
    try:
        stats = [(file.name, file.stat()) for file in weight_files(directory)]
    except OSError as error:
        name = Path(error.filename).name if error.filename else "a file"
        raise BrokenWeightsError(f"{name} cannot be read: {error.strerror}") from None
    named: list[Any] = [str(directory), [(n, s.st_size, s.st_mtime_ns, s.st_ino) for n, s in stats]]
    if is_adapter(directory):
        named.append(adapter_settings(directory))
    return digest(named)


def _combined(directory: Path, hashes: Mapping[str, str], base_of: Callable[[Path], str]) -> str:
    own = digest(sorted([t.name, t.dtype, t.shape, hashes[t.name]] for t in tensors(directory)))
    if not is_adapter(directory):
        return own
    return digest([base_of(model_folder(directory)), adapter_settings(directory), own])


def _hash(tensor: Tensor) -> str:
    content = hashlib.blake2b(digest_size=16)
    for chunk in chunks(tensor):
        content.update(chunk)
    return content.hexdigest()


def chunks(tensor: Tensor) -> Iterator[Any]:
    """A tensor's bytes, at most `CHUNK` at a time and then read-only.

    Raises
    ------
    BrokenWeightsError
        If its file has shrunk or cannot be read.
    """
    if tensor.start is None or tensor.stop is None:
        import torch

        content = tensor.values.contiguous().flatten().view(torch.uint8).numpy()
        yield from (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))
        return
    try:
        with open(tensor.file, "rb") as handle:
            handle.seek(tensor.start)
            for start in range(tensor.start, tensor.stop, CHUNK):
                chunk = handle.read(min(CHUNK, tensor.stop - start))
                if len(chunk) < min(CHUNK, tensor.stop - start):
                    short = f"{tensor.name} came out short"
                    raise BrokenWeightsError(f"{tensor.file.name} is being written: {short}")
                yield chunk
    except OSError as error:
        raise BrokenWeightsError(f"{tensor.file.name} cannot be read: {error.strerror}") from None
