"""Results on disk: one self-describing netCDF file per checkpoint and measure.

The name of a file is a hash of everything that decides its content, so a result is found again or
computed anew, never mistaken. Files appear whole (temporary name, then rename): several processes can
fill one store, and a killed one leaves nothing half-written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import xarray as xr

from babelscope.core.errors import InputError
from babelscope.core.files import digest, whole_file


@dataclass(frozen=True)
class Key:
    """What decides a result.

    Attributes
    ----------
    fingerprint
        Of the weights.
    measure, version, config
        Which measure, and a hash of its configuration.
    stream
        Hash of what is read: texts, probes or problems.
    tokenizer
        Hash of the tokenizer's files.
    dtype
        In which the model ran.
    """

    fingerprint: str
    measure: str
    version: int
    config: str
    stream: str
    tokenizer: str
    dtype: str

    @property
    def stem(self) -> str:
        return f"{self.measure}/{digest(asdict(self))}"


class Store:
    """A directory of results.

    Parameters
    ----------
    directory
        Made at the first write.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def __contains__(self, key: Key) -> bool:
        return self._file(key).exists()

    def load(self, key: Key) -> xr.Dataset:
        """The result under `key`; `KeyError` if there is none."""
        return _read(self._file(key), key)

    def save(self, key: Key, result: xr.Dataset, *, about: Mapping[str, int | float | str]) -> None:
        """Keep a result, with its key and `about` among its attributes, and drop its shards."""
        described = result.assign_attrs(asdict(key) | dict(about))
        _write(self._file(key), described)
        for part in self._parts(key):
            part.unlink(missing_ok=True)

    def load_part(self, key: Key, shard: int) -> xr.Dataset | None:
        """A shard's partial result, if it was reached before."""
        file = self._part(key, shard)
        return _read(file, key) if file.exists() else None

    def save_part(self, key: Key, shard: int, result: xr.Dataset) -> None:
        """Keep a shard's partial result until the whole is saved."""
        _write(self._part(key, shard), result)

    def _file(self, key: Key) -> Path:
        return self.directory / f"{key.stem}.nc"

    def _part(self, key: Key, shard: int) -> Path:
        return self.directory / f"{key.stem}.shard{shard:05d}.nc"

    def _parts(self, key: Key) -> list[Path]:
        file = self._file(key)
        return list(file.parent.glob(f"{file.stem}.shard*.nc"))


def _write(file: Path, result: xr.Dataset) -> None:
    # Through memory: HDF5 reports a full disk late and unclearly, a plain write at once.
    content = result.to_netcdf(engine="h5netcdf")
    with whole_file(file) as temporary:
        temporary.write_bytes(content)


def _read(file: Path, key: Key) -> xr.Dataset:
    if not file.exists():
        raise KeyError(key)
    try:
        return xr.load_dataset(file, engine="h5netcdf")
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and run the command again") from None
