"""Where programs that nobody has read are run: with nothing to read, nothing to reach, and an end.

`Bubblewrap` (github.com/containers/bubblewrap) gives every program namespaces of its own: no network, no other
process, no home, /usr read-only, and memory-backed folders that are gone afterwards. It needs neither root nor a
container engine. `Processes` is what is left without namespaces; it is never chosen for anybody.
`docs/sandbox.md` says what is held off by what.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import IO, Any, Protocol

from babelscope.core.errors import InputError
from babelscope.probes.process_trees import end, wait
from babelscope.probes.seccomp import denials

PATH = "/usr/local/bin:/usr/bin:/bin"  # of what runs in a sandbox, and where toolchains are looked for
INSIDE = "/tmp/program"  # noqa: S108 - in the sandbox's own temporary folder
NOBODY = 65534
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes
    ----------
    cpu_seconds
        Processor time of all its processes; it may take twice that by the clock, so that a loaded machine does
        not fail it.
    memory_mib
        Data of each process; all together may hold twice that.
    disk_mib
        Of its temporary folder, with what it writes beside its source; and again of shared memory.
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


class Sandbox(Protocol):
    """Runs one command in a folder."""

    name: str

    def check(self) -> None:
        """Whether it works here.

        Raises
        ------
        InputError
            If it does not, in the words of what refused, with what to do.
        """
        ...

    def run(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        limits: Limits,
        environment: Mapping[str, str],
        reads: Sequence[str] = (),
        keeps: bool = False,
    ) -> Finished:
        """Run `command` where the files of `folder` are.

        Parameters
        ----------
        environment
            Variables beside PATH, HOME and LANG.
        reads
            Paths to be seen beside /usr, where they exist.
        keeps
            Whether what it writes is kept in `folder`, as a compiler's output must be; else it is gone.

        Raises
        ------
        InputError
            If the sandbox itself failed. That says nothing about the command.
        """
        ...


class Bubblewrap:
    """Namespaces of its own for every program; as root, also an unprivileged user."""

    name = "bubblewrap"

    def check(self) -> None:
        """Run nothing, once per process."""
        _try_bubblewrap()

    def run(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        limits: Limits,
        environment: Mapping[str, str],
        reads: Sequence[str] = (),
        keeps: bool = False,
    ) -> Finished:
        """Run `command` in a sandbox of its own."""
        status, report = os.pipe()
        denied, filters = os.pipe()
        os.write(filters, denials())
        os.close(filters)
        within = [
            *_as_nobody(),
            *_walls(disk_mib=limits.disk_mib),
            *("--json-status-fd", str(report), "--seccomp", str(denied)),
            *(part for path in reads if os.path.exists(path) for part in ("--ro-bind", path, path)),
            *_files(folder, keeps=keeps),
            *("--remount-ro", "/", "--chdir", INSIDE),
            *(part for pair in _variables(environment, home="/tmp").items() for part in ("--setenv", *pair)),  # noqa: S108
            "--",
            # Within: in a new user namespace, processes are counted from zero. Outside, everything else that
            # the user runs would count too.
            *_limited(limits, processes=True),
            *command,
        ]
        try:
            # Without variables from the start: those of the sandbox's first process can be read inside.
            finished = _watched(within, limits=limits, env={}, pass_fds=(report, denied))
        finally:
            os.close(denied)
            os.close(report)
            with open(status, encoding="utf-8") as stream:
                said = [json.loads(line) for line in stream]
        # Bubblewrap reports an exit code only if it came so far as to start the command.
        if not finished.stopped and not any("exit-code" in one for one in said):
            raise InputError(
                f"the sandbox does not work: bubblewrap ended with {finished.code}: "
                f"{finished.stderr.strip() or 'no message'}"
            )
        return finished


class Processes:
    """Limits and an empty environment; for machines that refuse namespaces, and by name only.

    The program's CPU time, memory per process and size of files are limited, it starts in a temporary folder, and
    what is left of its process group is killed. It is **not** kept from reading files of the user, from writing
    where the user may, from the network, from seeing and killing the user's other processes, from starting any
    number of processes, from filling the disk with many files, or from leaving a process behind that has
    made itself independent. Use it in a container or on a machine of its own.
    """

    name = "processes"

    def check(self) -> None:
        """Whether the system's `prlimit` is there."""
        _tool("prlimit", package="util-linux")

    def run(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        limits: Limits,
        environment: Mapping[str, str],
        reads: Sequence[str] = (),
        keeps: bool = False,
    ) -> Finished:
        """Run `command` in `folder`, in a process group of its own."""
        return _watched(
            [*_as_nobody(), *_limited(limits, processes=False), *command],
            limits=limits,
            cwd=folder,
            env=_variables(environment, home=str(folder)) | {"TMPDIR": str(folder)},
            start_new_session=True,
        )


def sandbox(name: str) -> Sandbox:
    """The sandbox of that name; an unknown one is an `InputError` that lists the known."""
    known = {kind.name: kind for kind in (Bubblewrap, Processes)}
    if name not in known:
        raise InputError(f"unknown sandbox {name!r}; known are {', '.join(known)}")
    return known[name]()


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that whoever the sandbox runs programs as may write to; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="babelscope-") as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def _tool(name: str, *, package: str) -> str:
    found = shutil.which(name, path=PATH)
    if not found:
        raise InputError(
            f"the sandbox needs {name}, which is not in {PATH}; install it (Debian, Ubuntu: apt-get install "
            f"{package}). Without bubblewrap only the sandbox 'processes' is left, which keeps a program from little"
        )
    return found


@cache
def _try_bubblewrap() -> None:
    with workspace() as folder:
        script = folder / "check"
        script.write_text("#!/bin/sh\n", encoding="utf-8")
        script.chmod(0o755)
        try:
            found = Bubblewrap().run(["./check"], folder=folder, limits=Limits(), environment={})
        except InputError as error:
            raise InputError(
                f"{error}. If it may not make namespaces, allow them (sysctl: user.max_user_namespaces=10000, "
                "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; containers: "
                "a security profile that permits them), or use the sandbox 'processes', which keeps a program "
                "from little"
            ) from None
    if found.code:
        raise InputError(
            f"nothing can be run from {folder.parent}: {found.stderr.strip()}. If its file system is mounted "
            "noexec, set TMPDIR to a folder elsewhere"
        )


def _as_nobody() -> list[str]:
    """Root's processes escape the limit on their number, in any user namespace: it must be somebody else."""
    if os.geteuid() != 0:
        return []
    user = f"--reuid={NOBODY}", f"--regid={NOBODY}"
    return [_tool("setpriv", package="util-linux"), *user, "--clear-groups", "--no-new-privs"]


@cache
def _walls(*, disk_mib: int) -> tuple[str, ...]:
    """Everything that does not depend on the program; what is writable has a size."""
    system = []
    for top in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(top):
            system += ["--symlink", os.readlink(top), top]
        elif os.path.exists(top):
            system += ["--ro-bind", top, top]
    size = "--size", str(disk_mib * MIB)
    return (
        *(_tool("bwrap", package="bubblewrap"), "--unshare-all", "--unshare-user"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY)),
        *("--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *("--ro-bind", "/usr", "/usr", *system),
        *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *("--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),  # noqa: S108
        *(*size, "--tmpfs", "/tmp", "--dir", INSIDE),  # noqa: S108
    )


def _files(folder: Path, *, keeps: bool) -> Iterator[str]:
    """The folder itself, or its files one by one and read-only, in a folder that can be written to."""
    if keeps:
        yield from ("--bind", str(folder), INSIDE)
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_symlink():  # it would be followed outside
                yield from ("--ro-bind", entry.path, f"{INSIDE}/{entry.name}")


def _variables(environment: Mapping[str, str], *, home: str) -> dict[str, str]:
    return {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", **environment}


def _limited(limits: Limits, *, processes: bool) -> list[str]:
    """Address space is not limited: Java, Go and Node reserve far more of it than they use."""
    return [
        _tool("prlimit", package="util-linux"),
        f"--data={limits.memory_mib * MIB}",
        f"--fsize={limits.file_mib * MIB}",
        f"--cpu={ceil(limits.cpu_seconds) + 1}",  # should the watch be held up
        "--core=0",
        "--nofile=256",
        *([f"--nproc={limits.processes}"] if processes else []),
    ]


def _watched(command: Sequence[str], *, limits: Limits, **options: Any) -> Finished:
    """Run until it ends or must be ended; output goes to files, which nobody has to empty and which are capped."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        for output in (stdout, stderr):
            # As with a pipe, what a program writes through /dev/stdout and directly comes one after the other.
            fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
            os.fchmod(output.fileno(), 0o666)  # nobody else finds a file without a name
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, **options)
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
