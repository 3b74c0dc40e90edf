"""One command under limits: what it may use, its output, and its end."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import IO

from babelscope.core.errors import InputError
from babelscope.probes.process_trees import end, wait

PATH = "/usr/local/bin:/usr/bin:/bin"  # of what runs in a sandbox, and where its tools are looked for
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes
    ----------
    cpu_seconds
        Processor time of all its processes. By the clock it may take twice that, so that a loaded machine
        does not fail it.
    memory_mib
        Data of each process; all together may hold twice that.
    disk_mib
        What it may write beside its source and in its temporary folder; and again in shared memory.
    file_mib
        The largest file it may write, its output among them.
    processes
        Processes and threads at one time.
    """

    cpu_seconds: float = 10
    memory_mib: int = 1024
    disk_mib: int = 256
    file_mib: int = 64
    processes: int = 128

    @property
    def wall_seconds(self) -> float:
        """By the clock."""
        return 2 * self.cpu_seconds

    @property
    def total_mib(self) -> int:
        """Of all processes."""
        return 2 * self.memory_mib


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes
    ----------
    code
        Its exit code; 128 and the signal's number if a signal ended it.
    stopped
        Why it was killed ("too slow", "too much memory"), or empty.
    """

    code: int
    stdout: str
    stderr: str
    stopped: str
    seconds: float


@cache
def tool(name: str, *, package: str) -> str:
    """Path of an executable of the system.

    Raises
    ------
    InputError
        If it is missing, with the package that brings it.
    """
    found = shutil.which(name, path=PATH)
    if not found:
        raise InputError(
            f"the sandbox needs {name}, which is not in {PATH}; install it (Debian, Ubuntu: apt-get install "
            f"{package}). Without bubblewrap only the sandbox 'processes' is left, which holds off little"
        )
    return found


def limited(command: Sequence[str], limits: Limits, *, count_processes: bool) -> list[str]:
    """The command with the limits that the kernel keeps for each process.

    Address space is not limited: Java, Go and Node reserve far more of it than they use.
    """
    return [
        tool("prlimit", package="util-linux"),
        f"--data={limits.memory_mib * MIB}",
        f"--fsize={limits.file_mib * MIB}",
        f"--cpu={ceil(limits.cpu_seconds) + 1}",  # for when the watch is held up
        "--core=0",
        "--nofile=256",
        *([f"--nproc={limits.processes}"] if count_processes else []),
        *command,
    ]


def watched(
    command: Sequence[str],
    limits: Limits,
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    own_session: bool = False,
    passes: Sequence[int] = (),
) -> Finished:
    """Run a command until it ends, or its processes together use too much; `passes` are file descriptors.

    Output goes to files: nobody has to empty them, and their size has a limit.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        for output in (stdout, stderr):
            # As in a pipe, what is written directly comes after what was written through /dev/stdout.
            fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
            os.fchmod(output.fileno(), 0o666)  # nobody else finds a file without a name
        started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - that is what all this is for
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd=folder,
            start_new_session=own_session,
            pass_fds=passes,
        )
        try:
            stopped = wait(
                process,
                cpu_seconds=limits.cpu_seconds,
                wall_seconds=limits.wall_seconds,
                memory=limits.total_mib * MIB,
            )
        finally:
            end(process)
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return Finished(code, _text(stdout), _text(stderr), stopped, time.monotonic() - started)


def _text(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")
