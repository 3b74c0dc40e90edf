"""What a row of the table is, and how it is measured."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Two pieces of work and what is aimed at.

    Parameters
    ----------
    prepare
        Gives ours and what it is held against; a third, where memory counts, is what both must do anyway.
    aim
        At most this.
    aims_at
        Ours / against; or ours − against in milliseconds, where what is added does not grow with the work.
    rounds
        How often both are timed, after one round that warms up.
    against_times
        What `against` is multiplied by, where it is too long to be run whole.
    """

    prepare: Callable[[], tuple[Work, ...]]
    aim: float
    aims_at: Literal["ratio", "added_ms"] = "ratio"
    rounds: int = 7
    against_times: float = 1


def times(ours: Work, against: Work, *, rounds: int, against_times: float = 1) -> dict[str, float]:
    """Median seconds of both, and the medians of their ratio and their difference, round by round."""
    spent = []
    for _ in range(rounds + 1):
        marks = [time.perf_counter()]
        for work in (ours, against):
            work()
            marks.append(time.perf_counter())
        spent.append((marks[1] - marks[0], against_times * (marks[2] - marks[1])))
    one, other = zip(*spent[1:], strict=True)
    return {
        "ours": statistics.median(one),
        "against": statistics.median(other),
        "ratio": statistics.median(a / b for a, b in spent[1:]),
        "added_ms": statistics.median(1000 * (a - b) for a, b in spent[1:]),
    }


def extra_memory(work: Work, floor: Work) -> float:
    """MiB that the process needs at the peak of `work` beyond the peak of `floor` (Linux)."""
    return _peak(work) - _peak(floor)


def _peak(work: Work) -> float:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what others freed would hide what `work` takes
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    work()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
