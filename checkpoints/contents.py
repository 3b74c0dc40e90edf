"""What a checkpoint holds, from one pass over its bytes: no framework, never more than a megabyte in memory.

Of each tensor are kept a hash of its bytes, its norm, the number of its entries that are not finite, and a
sample: the same few hundred entries, at positions drawn from its name, in every checkpoint. So distances
between checkpoints can be estimated later without their weights:

    ‖x − y‖² ≈ Σ over tensors of size · mean over sampled entries of (x_e − y_e)²

Kept beside the series as fingerprints are, so that one more checkpoint costs one checkpoint. The hashes give
the fingerprint too, which is put where those are kept.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.numpy import save

from babelscope.checkpoints.fingerprints import Fingerprints, chunks, key_of
from babelscope.checkpoints.weights import Tensor, tensors
from babelscope.core.errors import InputError
from babelscope.core.files import whole_file

ENTRIES = 256  # sampled per tensor: a correlation within one tensor is then known to about 0.06
_PLAIN = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


@dataclass(frozen=True)
class TensorContents:
    """One tensor: `norm` is over its finite entries; `sampled` says how many entries its sample has.

    Integers and booleans are buffers: they are only hashed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    hash: str
    norm: float
    non_finite: int
    sampled: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Contents:
    """All tensors of a checkpoint by name, and the sampled entries of each; what is not finite is 0 there.

    Of an adapter they are its own tensors; its `fingerprint` includes the base's.
    """

    fingerprint: str
    tensors: dict[str, TensorContents]
    samples: dict[str, Float[np.ndarray, " sampled"]]

    @property
    def norm(self) -> float:
        return math.sqrt(sum(tensor.norm**2 for tensor in self.tensors.values()))

    def distance(self, other: Contents) -> float:
        """Estimate of the Euclidean distance to another checkpoint of the same model."""
        squares = (
            self.tensors[name].size * np.square(sample - other.samples[name], dtype=float).mean()
            for name, sample in self.samples.items()
        )
        return math.sqrt(sum(squares))


class ContentsCache:
    """Contents of a series' checkpoints, kept in its state directory.

    Parameters
    ----------
    state
        `Series.state`.
    """

    def __init__(self, state: Path):
        self._folder = state / "contents"
        self._fingerprints = Fingerprints(state / "fingerprints")

    def knows(self, directory: Path) -> bool:
        """Whether `of` needs no weights; `BrokenWeightsError` as for `tensors`."""
        return self._file(directory).exists()

    def of(self, directory: Path, *, advance: Callable[[int], None] = lambda _: None) -> Contents:
        """The contents of a checkpoint; every weight is read once, and never again.

        Parameters
        ----------
        directory
            The checkpoint.
        advance
            Called with the number of bytes read since the last call.

        Raises
        ------
        BrokenWeightsError
            If a file is truncated, its header makes no sense, or it cannot be read.
        InputError
            If what is read cannot be kept.
        """
        file = self._file(directory)
        if not file.exists():
            self._require_writable()  # before hours of reading
            found, samples = _read(directory, advance)
            # First: once the contents are known, nobody comes back to write it.
            known = self._fingerprints.keep(directory, {name: one.hash for name, one in found.items()})
            with whole_file(file) as temporary:
                _save(Contents(known, found, samples), temporary)
        return _load(file)

    def _require_writable(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise InputError(f"{self._folder} cannot be made: {error.strerror}") from None
        if not os.access(self._folder, os.W_OK):
            raise InputError(f"{self._folder} cannot be written; what is read of the weights is kept there")

    def _file(self, directory: Path) -> Path:
        return self._folder / f"{key_of(directory)}.safetensors"


def _read(
    directory: Path, advance: Callable[[int], None]
) -> tuple[dict[str, TensorContents], dict[str, Float[np.ndarray, " sampled"]]]:
    found, samples = {}, {}
    for tensor in sorted(tensors(directory), key=lambda tensor: (tensor.file, tensor.start or 0)):
        found[tensor.name], sample = _read_tensor(tensor, advance)
        if len(sample):
            samples[tensor.name] = sample
    return found, samples


def _read_tensor(
    tensor: Tensor, advance: Callable[[int], None]
) -> tuple[TensorContents, Float[np.ndarray, " sampled"]]:
    content = hashlib.blake2b(digest_size=16)
    wanted = _positions(tensor)
    squares, non_finite, seen = 0.0, 0, 0
    sample = [np.empty(0, np.float32)]
    for chunk in chunks(tensor):
        content.update(chunk)
        advance(len(chunk))
        values = _floats(chunk, tensor.dtype)
        if values is None:
            continue
        with np.errstate(invalid="ignore", over="ignore"):  # not finite is what is looked for
            exact = values.astype(np.float64)
            total = float(exact @ exact)
        if not math.isfinite(total):  # one product tells; entries are looked at only where it is worth it
            finite = np.isfinite(exact)
            non_finite += int((~finite).sum())
            exact = np.where(finite, exact, 0.0)
            total = float(exact @ exact)
        squares += total
        inside = wanted[np.searchsorted(wanted, seen) : np.searchsorted(wanted, seen + len(values))]
        sample.append(exact[inside - seen].astype(np.float32))
        seen += len(values)
    found = np.concatenate(sample)
    about = TensorContents(
        tensor.name,
        tensor.dtype,
        tensor.shape,
        content.hexdigest(),
        math.sqrt(squares),
        non_finite,
        len(found),
    )
    return about, found


def _positions(tensor: Tensor) -> Int[np.ndarray, " sampled"]:
    """Sorted positions of the sampled entries: all of a small tensor, the same ones in every checkpoint."""
    size = math.prod(tensor.shape)
    if size <= ENTRIES:
        return np.arange(size)
    seed = int.from_bytes(hashlib.blake2b(tensor.name.encode(), digest_size=8).digest(), "little")
    return np.sort(np.random.default_rng(seed).choice(size, ENTRIES, replace=False, shuffle=False))


def _floats(raw: bytes | np.ndarray, dtype: str) -> Float[np.ndarray, " entry"] | None:
    """Decode numbers; None for integers and booleans."""
    if dtype in _PLAIN:
        return np.frombuffer(raw, _PLAIN[dtype])
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (np.frombuffer(raw, np.uint8).astype(np.uint16) << 8).view(np.float16)
    if dtype == "F8_E4M3":
        return _E4M3[np.frombuffer(raw, np.uint8)]
    return None


def _e4m3() -> Float[np.ndarray, "256"]:
    """Every 8-bit float with 4 bits of exponent: no infinities, and one NaN of each sign."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    size[(exponent == 15) & (mantissa == 7)] = np.nan
    return np.where(code < 128, size, -size).astype(np.float32)


_E4M3 = _e4m3()


def _save(contents: Contents, file: Path) -> None:
    about = [asdict(tensor) for tensor in contents.tensors.values()]
    together = np.concatenate([*contents.samples.values(), np.empty(0, np.float32)])
    metadata = {"fingerprint": contents.fingerprint, "tensors": json.dumps(about)}
    # Through memory: the library would not say in an OSError that a disk is full.
    file.write_bytes(save({"samples": together}, metadata=metadata))


def _load(file: Path) -> Contents:
    with safe_open(file, framework="numpy") as stored:
        metadata = stored.metadata()
        together = stored.get_tensor("samples")
    about = json.loads(metadata["tensors"])
    found = {one["name"]: TensorContents(**one | {"shape": tuple(one["shape"])}) for one in about}
    ends = np.cumsum([tensor.sampled for tensor in found.values()])
    cut = dict(zip(found, np.split(together, ends)[:-1], strict=True))
    return Contents(
        metadata["fingerprint"], found, {name: sample for name, sample in cut.items() if len(sample)}
    )
