"""Is the stage detector calibrated? Score curves whose truth is known, thousands of times.

Part *grid*: every truth of `stage_truths.py` × 10 to 60 checkpoints × 150 to 2,000 problems × three kinds of
noise, four times as often for flat curves and at 20 checkpoints of 1,000 problems. Part *peers*: beside
ruptures and the raw argmax. Part *tables*: no runs, only the tables of docs/stages.md from what is stored.

A cell is stored as it ends and is not run again while as many repeats of it are stored, so that a study that
was stopped goes on where it was. After a change of the detector, --fresh forgets what is stored.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from babelscope.core.files import write_text
from benchmarks.stage_grid import GRID, Cell, tally
from benchmarks.stage_peers import PEER_CELLS, PeerCell
from benchmarks.stage_tables import write_tables

STORED = Path(__file__).parent / "stage_study.json"
DOCUMENT = Path(__file__).parents[1] / "docs" / "stages.md"
PARTS: dict[str, Sequence[Cell | PeerCell]] = {"grid": GRID, "peers": PEER_CELLS, "tables": ()}


def run_cell(cell: Cell | PeerCell, repeats: int) -> dict[str, Any]:
    """All runs of a cell, seeded by its name, so that neither order nor company changes them."""
    rng, started = np.random.default_rng(zlib.crc32(cell.key.encode())), time.process_time()
    sums = tally(cell.run(rng, number) for number in range(repeats))
    return {"repeats": repeats, "seconds": round(time.process_time() - started, 1), "tally": sums}


def study(cells: Sequence[Cell | PeerCell], repeats: int, *, jobs: int, stored: Path) -> dict[str, Any]:
    """What is stored, with the cells that were missing or too short."""
    known: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    missing = [cell for cell in cells if known.get(cell.key, {}).get("repeats") != cell.repeats(repeats)]
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(run_cell, cell, cell.repeats(repeats)): cell for cell in missing}
        for number, done in enumerate(as_completed(running), start=1):
            cell = running[done]
            known[cell.key] = done.result()
            # A line per cell, so that two studies can be compared.
            lines = [f"{json.dumps(key)}: {json.dumps(known[key])}" for key in sorted(known)]
            write_text(stored, "{\n" + ",\n".join(lines) + "\n}\n")
            print(f"{number}/{len(missing)}  {cell.key}: {known[cell.key]['seconds']} s", file=sys.stderr)
    return known


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stage_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=PARTS, help="one part (default: grid, then peers, then tables)")
    parser.add_argument("--repeats", type=int, default=25, help="runs of each cell (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--stored", type=Path, default=STORED, help="results of cells (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=DOCUMENT, help="page with the tables (default: %(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="run every wanted cell again")
    given = parser.parse_args()
    if given.repeats < 2 or given.jobs < 1:
        parser.error("give at least 2 repeats and 1 job")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes started: small matrices, one core each
    wanted = [cell for part in ([given.only] if given.only else PARTS) for cell in PARTS[part]]
    if given.fresh and given.stored.exists():
        kept = json.loads(given.stored.read_text())
        for cell in wanted:
            kept.pop(cell.key, None)
        given.stored.write_text(json.dumps(kept))
    known = study(wanted, given.repeats, jobs=given.jobs, stored=given.stored)
    given.out.write_text(write_tables(given.out.read_text(), known))


if __name__ == "__main__":
    main()
