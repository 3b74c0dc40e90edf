"""Files that are either whole or absent, and hashes that name what is in them."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from babelscope.core.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place only if the block succeeds.

    The rename is atomic, so a reader, or the same command after a SIGKILL, sees the old file or
    the new one and never half of it. Host and process id keep two writers of one file apart, and tell
    what a killed one left behind, which is removed.

    Raises
    ------
    InputError
        If there is no place for the file: a folder of its name, a file where a folder should be, no right
        to write.
    """
    mine = f".{path.name}.{socket.gethostname()}-"
    temporary = path.with_name(f"{mine}{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(mine)}*.part"):
            if not _running(int(left.name.removeprefix(mine).removesuffix(".part"))):
                left.unlink(missing_ok=True)
        try:
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        # The block may fail over files of its own, and a full disk is no fault of the place.
        ours = error.filename is not None and Path(error.filename) in (temporary, *path.parents)
        if not ours or error.errno == errno.ENOSPC:
            raise
        raise InputError(f"{path} cannot be written: {error.strerror}; give another place") from None


def _running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Any) -> None:
    """Write `document` as indented JSON, atomically; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises
    ------
    InputError
        If the file is missing, cannot be read or is not JSON; the message names it.
    """
    try:
        return json.loads(_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML document; `InputError` as for `read_json`."""
    try:
        return tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a file") from None


def digest(document: Any) -> str:
    """Short hash of a JSON-able document, independent of key order."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
