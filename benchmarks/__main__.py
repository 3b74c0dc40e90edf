"""`make bench`: every row in a fresh process, the table on the screen, the numbers in results.json.

A row is a ratio of two times taken in turn in one process, since machines are noisy and only ratios travel:
the median over rounds of ours / against.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rows import ROWS

RESULTS = Path(__file__).parent / "results.json"
ROUNDS = 7


def ratio(ours: Callable[[], object], against: Callable[[], object]) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the ratios, round by round; one round warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        marks = [time.perf_counter()]
        for work in (ours, against):
            work()
            marks.append(time.perf_counter())
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    one, other = zip(*times[1:], strict=True)
    return (
        statistics.median(one),
        statistics.median(other),
        statistics.median(a / b for a, b in times[1:]),
    )


def measure(name: str) -> dict[str, object]:
    row = ROWS[name]
    ours, against, found = ratio(*row.prepare())
    return {
        "name": name,
        "ours": ours,
        "against": against,
        "ratio": found,
        "aim": row.aim,
        "met": found <= row.aim,
        "unit": "s",
    }


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    results = []
    for name in ROWS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", name], check=True, capture_output=True, text=True
        )
        results.append(json.loads(done.stdout.splitlines()[-1]))
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    table = Table(title="ours / against, median of rounds")
    for heading in ("row", "ours (s)", "against (s)", "ratio", "aim", "met"):
        table.add_column(heading)
    for row in results:
        numbers = (f"{row[key]:.3g}" for key in ("ours", "against", "ratio", "aim"))
        table.add_row(row["name"], *numbers, "yes" if row["met"] else "no")
    Console().print(table)


if __name__ == "__main__":
    main()
