"""From disk straight into the tensors of a model, and whether what came is finite.

A plain read into the tensor's own memory copies once, out of the page cache; a memory map costs a fault per
page besides. Weights are read in pieces, and each is summed while it is in the processor's cache: what is not
finite stays so in a sum, and looking at all weights a second time would cost a third of reading them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from babelscope.checkpoints.weights import BrokenWeightsError, Tensor, dtype_name, tensors
from babelscope.core.errors import InputError

PIECE = 1 << 18  # entries: 1 MiB of float32

_KNOWN = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8)
_KNOWN += (torch.int16, torch.int32, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2)
DTYPES = {dtype_name(dtype): dtype for dtype in _KNOWN}


class _Piece(NamedTuple):
    """A run of a tensor's entries, and where they go."""

    source: Tensor
    first: int
    target: torch.Tensor


def read_weights(
    directory: Path, mapping: Mapping[str, str], into: Mapping[str, torch.Tensor], *, readers: int, what: str
) -> None:
    """Fill `into[mapping[name]]` from each tensor `name` on disk, cast to what is there.

    Parameters
    ----------
    readers
        How many threads read.
    what
        How to call the checkpoint.

    Raises
    ------
    BrokenWeightsError
        As for `tensors`, or if a file shrinks meanwhile.
    InputError
        If a weight is not finite.
    """
    found = [tensor for tensor in tensors(directory) if tensor.name in mapping]
    pieces = [piece for tensor in found for piece in _pieces(tensor, into[mapping[tensor.name]])]
    with ThreadPoolExecutor(readers) as pool:
        total = sum(pool.map(_fill, (pieces[first::readers] for first in range(readers))))
    if not math.isfinite(total):
        refuse_non_finite({entry: into[entry] for entry in mapping.values()}, what=what)


def read_tensor(tensor: Tensor) -> torch.Tensor:
    """One tensor, as it is on disk; `BrokenWeightsError` if its file has shrunk."""
    value = torch.empty(tensor.shape, dtype=DTYPES[tensor.dtype])
    _fill(list(_pieces(tensor, value)))
    return value


def refuse_non_finite(state: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Name the tensors with entries that are not finite, in an `InputError`."""
    broken = [
        name
        for name, value in state.items()  # a sum is quick, but may also overflow
        if not (value.sum(dtype=torch.float32).isfinite() or value.isfinite().all())
    ]
    if broken:
        raise InputError(f"{what} has non-finite weights: {', '.join(broken[:3])}")


def _pieces(source: Tensor, target: torch.Tensor) -> Iterator[_Piece]:
    for number, run in enumerate(target.view(-1).split(PIECE)):
        yield _Piece(source, number * PIECE, run)


def _fill(pieces: Sequence[_Piece]) -> float:
    """Read every piece into its target; the sum of all that was written there."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for file, group in groupby(pieces, key=lambda piece: piece.source.file):
            with open(file, "rb", buffering=0) as handle:
                for piece in group:
                    total += float(_read(piece, handle).float().numpy().sum())
    return total


def _read(piece: _Piece, handle: FileIO) -> torch.Tensor:
    """One piece, on the CPU and of its target's dtype, once it is in its target."""
    source, first, target = piece
    if source.start is None:
        value = source.values.reshape(-1)[first : first + len(target)].to(target.dtype)
    else:
        dtype = DTYPES[source.dtype]
        direct = target.device.type == "cpu" and target.dtype == dtype
        read = target if direct else torch.empty(len(target), dtype=dtype)
        handle.seek(source.start + first * dtype.itemsize)
        raw = read.view(torch.uint8).numpy()
        if handle.readinto(raw.data) < len(raw):
            raise BrokenWeightsError(f"{source.file.name} is being written: {source.name} came out short")
        if direct:
            return target
        value = read.to(target.dtype)
    target.copy_(value)
    return value
