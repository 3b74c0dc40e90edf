"""SIGKILL at a chosen moment: a forked child counts what it does and kills itself at the n-th event.

Forking from one warmed process costs no imports. Where the event is a write, half of the file is there.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Bomb:
    """Counts events below `output` and kills the process at one of them; never if `at` is None."""

    def __init__(self, output: Path, at: int | None):
        self.output, self.at, self.seen = str(output), at, 0
        self.armed = True
        sys.addaudithook(lambda event, arguments: self.armed and self._on_audit(event, arguments))

    def event(self, half_write: Callable[[], None] | None = None) -> None:
        self.seen += 1
        if self.seen == self.at:
            if half_write is not None:
                half_write()
            os.kill(os.getpid(), signal.SIGKILL)

    def _on_audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        writing = name == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        files = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if (writing or name in files) and self.output in str(arguments[0]):
            self.event()

    def half_written(self, save: Callable[..., Any], path_of: Callable[..., Any]) -> Callable[..., Any]:
        """`save`, as an event that may leave half of its file."""

        def saving(*arguments: Any, **options: Any) -> Any:
            def half() -> None:
                self.armed = False
                save(*arguments, **options)
                path = path_of(*arguments, **options)
                os.truncate(path, os.path.getsize(path) // 2)

            self.event(half)
            return save(*arguments, **options)

        return saving


def in_child(work: Callable[[], int]) -> int | None:
    """What `work` returns, run in a forked child; None if it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(work()).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must not return into the parent's code
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as answer:
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return None
        assert status == 0, f"the run failed with {status}"
        return int(answer.read())


def spread(total: int, number: int) -> list[int]:
    """`number` events out of `total`, the first and the last among them."""
    return [1 + round(index * (total - 1) / (number - 1)) for index in range(number)]
