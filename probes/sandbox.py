"""Where programs that nobody has read are run: nothing to read, nothing to reach, and an end.

`Bubblewrap` (github.com/containers/bubblewrap) gives every program namespaces of its own: no network, no
other process, no home, /usr read-only, and folders in memory that are gone afterwards. It needs neither root
nor a container engine. `Processes` is what is left without namespaces; it is never chosen for anybody.
`docs/sandbox.md` lists what is held off by what.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

from babelscope.core.errors import InputError
from babelscope.probes.limits import MIB, PATH, Finished, Limits, limited, tool, watched
from babelscope.probes.seccomp import denials

NOBODY = 65534
SCRATCH, SHARED = "/tmp", "/dev/shm"  # noqa: S108 - the sandbox's own
INSIDE = f"{SCRATCH}/program"  # where the files of a program are
TOP = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")  # links into /usr on most systems


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
    """Namespaces of its own for every program; under root, also a user without rights."""

    name = "bubblewrap"

    def check(self) -> None:
        """Run an empty script, once per process."""
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
        report, status = os.pipe()
        filters, denied = os.pipe()
        os.write(denied, denials())
        os.close(denied)
        inside = [
            *_as_nobody(),
            *_walls(disk_mib=limits.disk_mib),
            *("--json-status-fd", str(status), "--seccomp", str(filters)),
            *(part for path in reads if os.path.exists(path) for part in ("--ro-bind", path, path)),
            *_files(folder, keeps=keeps),
            *("--remount-ro", "/", "--chdir", INSIDE),
            *(part for pair in _variables(environment, home=SCRATCH) for part in ("--setenv", *pair)),
            "--",
            # The number of processes is limited inside, where they are counted from zero. Outside, all that
            # the user runs would count.
            *limited(command, limits, count_processes=True),
        ]
        try:
            # No variables from the start: inside, those of the sandbox's first process can be read.
            finished = watched(inside, limits, environment={}, passes=(status, filters))
        finally:
            os.close(status)
            os.close(filters)
            with open(report, encoding="utf-8") as lines:
                said = [json.loads(line) for line in lines]
        # Bubblewrap tells an exit code only if it came so far as to start the command.
        if not finished.stopped and not any("exit-code" in one for one in said):
            raise InputError(
                f"the sandbox does not work: bubblewrap ended with {finished.code}: "
                f"{finished.stderr.strip() or 'no message'}"
            )
        return finished


class Processes:
    """Limits and an empty environment; for machines that refuse namespaces, and by name only.

    A program's processor time, memory and size of files are limited, it starts in a temporary folder, and
    what is left of its process group is killed. It is **not** kept from reading the user's files, from
    writing where the user may, from the network, from seeing and killing the user's other processes, from
    starting any number of its own, from filling the disk with many files, or from leaving a process behind
    that has made itself independent. Use it in a container or on a machine of its own.
    """

    name = "processes"

    def check(self) -> None:
        """Whether the system's `prlimit` is there."""
        tool("prlimit", package="util-linux")

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
        """Run `command` in `folder`, in a session of its own."""
        return watched(
            [*_as_nobody(), *limited(command, limits, count_processes=False)],
            limits,
            environment=dict(_variables({"TMPDIR": str(folder), **environment}, home=str(folder))),
            folder=folder,
            own_session=True,
        )


def sandbox(name: str) -> Sandbox:
    """The sandbox of that name; an unknown one is an `InputError` that lists the known."""
    known = {kind.name: kind for kind in (Bubblewrap, Processes)}
    if name not in known:
        raise InputError(f"unknown sandbox {name!r}; known are {', '.join(known)}")
    return known[name]()


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that whoever programs are run as may write to; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="babelscope-") as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


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
                f"{error}. If namespaces are refused, allow them (sysctl user.max_user_namespaces=10000, "
                "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; for a "
                "container, a security profile that permits them). Without them only the sandbox 'processes' "
                "is left, which holds off little"
            ) from None
    if found.code:
        raise InputError(
            f"nothing can be run from {folder.parent}: {found.stderr.strip() or found.stopped}. If its file "
            "system is mounted noexec, set TMPDIR to a folder elsewhere"
        )


def _as_nobody() -> list[str]:
    """What root starts escapes the limit on processes, in any user namespace: it must be somebody else."""
    if os.geteuid() != 0:
        return []
    user = f"--reuid={NOBODY}", f"--regid={NOBODY}"
    return [tool("setpriv", package="util-linux"), *user, "--clear-groups", "--no-new-privs"]


@cache
def _walls(*, disk_mib: int) -> tuple[str, ...]:
    """What does not depend on the program. All that can be written to has a size."""
    size = "--size", str(disk_mib * MIB)
    return (
        *(tool("bwrap", package="bubblewrap"), "--unshare-all", "--unshare-user", "--disable-userns"),
        *("--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session", "--clearenv"),
        *("--ro-bind", "/usr", "/usr", *_top()),
        *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *("--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", SHARED, "--remount-ro", "/dev"),
        *(*size, "--tmpfs", SCRATCH, "--dir", INSIDE),
    )


def _top() -> Iterator[str]:
    for path in TOP:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.exists(path):
            yield from ("--ro-bind", path, path)


def _files(folder: Path, *, keeps: bool) -> Iterator[str]:
    """The folder itself; or its files one by one, read-only, in a folder that can be written to."""
    if keeps:
        yield from ("--bind", str(folder), INSIDE)
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_symlink():  # it would be followed outside
                yield from ("--ro-bind", entry.path, f"{INSIDE}/{entry.name}")


def _variables(environment: Mapping[str, str], *, home: str) -> Iterator[tuple[str, str]]:
    yield from {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", **environment}.items()
