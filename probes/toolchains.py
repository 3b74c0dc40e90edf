"""What here runs a language: the first of its toolchains whose executables the sandbox sees."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from babelscope.core.languages import Toolchain, language
from babelscope.probes.limits import PATH


@cache
def toolchain(name: str) -> Toolchain | None:
    """What runs the language, or None."""
    for known in language(name).toolchains:
        if all(_found(executable) for executable in known.needs):
            return known
    return None


def missing(name: str) -> str | None:
    """Why nothing here runs the language and what would bring it; None where something does."""
    if toolchain(name):
        return None
    return "; or ".join(
        f"{', '.join(_where(e) for e in known.needs if not _found(e))} (comes with {known.brought_by})"
        for known in language(name).toolchains
    )


@cache
def version(name: str) -> str:
    """What the language's toolchain says of itself, in a line; empty where there is none."""
    found = toolchain(name)
    if not found:
        return ""
    said = subprocess.run(  # noqa: S603 - from our own data
        found.version,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": PATH, "LANG": "C.UTF-8"},
        check=False,
    )
    lines = (said.stdout.strip() or said.stderr.strip()).splitlines()
    return lines[0] if lines else "unknown"


def _found(executable: str) -> bool:
    """Whether it is there, and is no link to somewhere that the sandbox does not see."""
    path = shutil.which(executable, path=PATH)
    return path is not None and Path(path).resolve().is_relative_to("/usr")


def _where(executable: str) -> str:
    elsewhere = shutil.which(executable, path=PATH) or shutil.which(executable)
    if elsewhere:
        return f"{executable} is at {Path(elsewhere).resolve()}, which the sandbox does not see"
    return f"{executable} is not in {PATH}"
