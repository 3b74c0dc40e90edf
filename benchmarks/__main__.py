"""`make bench`: every row in a fresh process, the table on the screen, the numbers in results.json.

A row is a ratio of two times taken in turn in one process, since machines are noisy and only ratios travel:
the median over rounds of ours / against. With names as arguments, only rows that hold one of
them; the numbers of the others stay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks import generation, lens, mix, neurons, sandbox, series, stages, thread
from benchmarks.row import extra_memory, times

RESULTS = Path(__file__).parent / "results.json"
MODULES = (thread, series, lens, neurons, sandbox, generation, mix, stages)
ROWS = {name: row for module in MODULES for name, row in module.ROWS.items()}


def measure(name: str) -> dict[str, object]:
    row = ROWS[name]
    ours, against, *floor = row.prepare()
    found = times(ours, against, rounds=row.rounds, against_times=row.against_times)
    met = found[row.aims_at] <= row.aim
    result: dict[str, object] = {"name": name, **found, "aims_at": row.aims_at, "aim": row.aim, "met": met}
    if floor:
        result |= {"extra_mib": extra_memory(ours, *floor), "against_mib": extra_memory(against, *floor)}
    return result


def main() -> None:
    if os.environ.get("BENCHMARK_ROW"):
        print(json.dumps(measure(os.environ["BENCHMARK_ROW"])))
        return
    wanted = [name for name in ROWS if not sys.argv[1:] or any(part in name for part in sys.argv[1:])]
    with TemporaryDirectory() as folder:
        if set(wanted) & set(series.ROWS):
            series.write(Path(folder))
        results = [_in_its_own_process(name, folder) for name in wanted]
    known = {row["name"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    known |= {row["name"]: row for row in results}
    RESULTS.write_text(json.dumps([known[name] for name in ROWS if name in known], indent=2) + "\n")
    table = Table(title="ours / against, median of rounds; MiB at the peak beyond the blocks alone")
    headings = ("ours (s)", "against (s)", "ratio", "added (ms)", "aim", "met", "ours (MiB)", "against (MiB)")
    for heading in ("row", *headings):
        table.add_column(heading)
    for row in results:
        numbers = (f"{row[key]:.3g}" for key in ("ours", "against", "ratio", "added_ms"))
        aim = f"{row['aim']:.3g}{' ms' if row['aims_at'] == 'added_ms' else ''}"
        memory = (f"{row[key]:.0f}" if key in row else "" for key in ("extra_mib", "against_mib"))
        table.add_row(row["name"], *numbers, aim, "yes" if row["met"] else "no", *memory)
    Console(width=160).print(table)


def _in_its_own_process(name: str, folder: str) -> dict[str, object]:
    environment = os.environ | {"BENCHMARK_ROW": name, series.FOLDER: folder, "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {result['ratio']:.3g}", file=sys.stderr, flush=True)  # the whole table takes half an hour
    return result


if __name__ == "__main__":
    main()
