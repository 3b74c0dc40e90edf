"""Processes with all that they have started: what they use, and their end (Linux).

Without control groups, which need rights that a user may not have, the use of a whole tree can only be
looked at now and then. A program that ends within `FIRST_LOOK` costs no look at all.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FIRST_LOOK = 0.1  # seconds after the start
EVERY = 0.05
PATIENCE = 5
TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """Of a tree of processes."""

    cpu_seconds: float
    memory: int  # bytes, without what is mapped from files


def wait(process: subprocess.Popen[bytes], *, cpu_seconds: float, wall_seconds: float, memory: int) -> str:
    """Wait until the process ends, or until its tree uses too much: then why, else nothing.

    Time that it wanted a core and had none does not count, up to `PATIENCE` times the limit: on a loaded
    machine a right program takes longer.
    """
    started = time.monotonic()
    waited: dict[int, float] = {}
    watched = os.pidfd_open(process.pid)
    try:
        ended = select.poll()
        ended.register(watched, select.POLLIN)
        pause = FIRST_LOOK
        while not ended.poll(pause * 1000):
            pause = EVERY
            tree = [process.pid, *descendants(process.pid)]
            used = usage(tree)
            if used.memory > memory:
                return "too much memory"
            waited |= held_up(tree)
            late = time.monotonic() - started - wall_seconds
            excused = min(sum(waited.values()), (PATIENCE - 1) * wall_seconds)
            if used.cpu_seconds > cpu_seconds or late > excused:
                return "too slow"
    finally:
        os.close(watched)
    return ""


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with what it has started and what is left of its group, and wait for it."""
    for pid in [*descendants(process.pid), process.pid]:
        _kill(os.kill, pid)
    _kill(os.killpg, process.pid)  # before the wait: until then nobody else gets its number
    process.wait()


def _kill(how: Callable[[int, int], None], pid: int) -> None:
    with suppress(ProcessLookupError):
        how(pid, signal.SIGKILL)


def descendants(pid: int) -> Iterator[int]:
    """All that the process has started, directly or not, as far as it can still be told."""
    try:
        lists = [(thread / "children").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return
    for child in (int(one) for found in lists for one in found.split()):
        yield child
        yield from descendants(child)


def usage(processes: Iterable[int]) -> Usage:
    """Added up; memory that several share counts for each."""
    ticks = kib = 0
    for pid in processes:
        try:
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(map(int, times[11:15]))  # in user and system mode, its own and of children it waited for
        for kind in ("RssAnon:", "RssShmem:"):
            kib += int((status.partition(kind)[2].split() or ["0"])[0])  # a zombie has none
    return Usage(ticks / TICKS, kib * 1024)


def held_up(processes: Iterable[int]) -> dict[int, float]:
    """Seconds that each process has waited for a core: its thread that has waited longest."""
    waits = {}
    for pid in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            threads = Path(f"/proc/{pid}/task").iterdir()
            delays = [int((thread / "schedstat").read_text().split()[1]) for thread in threads]
            waits[pid] = max(delays, default=0) / 1e9
    return waits
