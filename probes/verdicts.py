"""Verdicts of programs that were run before, in one sqlite file that several processes may share."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from babelscope.core.errors import InputError
from babelscope.probes.problems import Verdict

WAIT = 60  # seconds, for another process that is writing


class VerdictCache:
    """Verdicts by key.

    Raises
    ------
    InputError
        If the file is something else.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
        try:
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS verdicts "
                "(key TEXT PRIMARY KEY, solved INTEGER, reason TEXT, detail TEXT)"
            )
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{path} holds no verdicts ({error}); move it away or name another file"
            ) from None

    def get(self, key: str) -> Verdict | None:
        """The verdict, if there is one."""
        row = self._file.execute(
            "SELECT solved, reason, detail FROM verdicts WHERE key = ?", (key,)
        ).fetchone()
        return Verdict(bool(row[0]), row[1], row[2]) if row else None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict, unless the program was not run: it may be tomorrow."""
        if verdict.solved is not None:
            self._file.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", (key, *verdict))
