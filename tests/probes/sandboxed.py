"""What tests that run programs have in common."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from babelscope.core.errors import InputError
from babelscope.probes.code import CodeProblem, assemble
from babelscope.probes.execution import Program
from babelscope.probes.limits import Limits
from babelscope.probes.problems import Problem
from babelscope.probes.process_trees import descendants
from babelscope.probes.sandbox import Bubblewrap
from babelscope.probes.toolchains import missing

SMALL = Limits(cpu_seconds=1, memory_mib=256, disk_mib=16, file_mib=8, processes=32)
SUBREAPER = 36  # prctl(2): orphans come to us


def needs(*languages: str) -> None:
    """Skip where the sandbox or a toolchain is missing."""
    try:
        Bubblewrap().check()
    except InputError as error:
        pytest.skip(str(error))
    for name in languages:
        if missing(name):
            pytest.skip(f"{name}: {missing(name)}")


def marked(name: str, text: str) -> Program:
    """A program with its marker at its end."""
    problem = Problem(id="test", language=name, prompt="")
    return assemble(CodeProblem(problem, source="test", tests=text), "")


@contextmanager
def nothing_left_behind() -> Iterator[Path]:
    """Yields the temporary folder; afterwards it is empty, and no process is left."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103 - the sandbox's user must get through
        prctl = ctypes.CDLL(None).prctl
        before, tempfile.tempdir = tempfile.tempdir, name
        prctl(SUBREAPER, 1)
        others = set(_living())
        try:
            yield Path(name)
            assert os.listdir(name) == []
            patience = time.monotonic() + 2
            while set(_living()) - others and time.monotonic() < patience:
                time.sleep(0.01)
            assert set(_living()) - others == set()
        finally:
            prctl(SUBREAPER, 0)
            tempfile.tempdir = before


def _living() -> Iterator[int]:
    for pid in descendants(os.getpid()):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state == "Z":
            _reap(pid)
        else:
            yield pid


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # somebody else's
        return
