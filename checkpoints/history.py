"""What a run logged: losses, learning rates and scores by step, from whatever it was logged to.

trainer_state.json           of the last checkpoint, which holds the log of all earlier ones
*.jsonl, *.csv               with a step in each row; beside the checkpoints or in `logs/`, `runs/`, `runs/*/`
events.out.tfevents.*        TensorBoard's, there too; slow to read, so only where nothing else was logged

A row is what was logged at once; one step may have several. What an earlier source says of a step is not
said again by a later one. Numbers that are not finite, and steps past the last checkpoint, are left out, each
kind with a finding.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelscope.checkpoints.findings import Finding
from babelscope.checkpoints.layouts import shown
from babelscope.core.errors import InputError
from babelscope.core.files import read_json

if TYPE_CHECKING:
    from babelscope.checkpoints.checkpoint import Checkpoint

Row = dict[str, Any]
STEP_NAMES = ("step", "global_step", "iteration", "Step", "_step")  # the last two are W&B's
HEADING = 10  # lines of a log that may precede its first step
FOLDERS = ("", "logs/", "runs/", "runs/*/")
EVENTS = "events.out.tfevents.*"


def read_history(directory: Path, checkpoints: Sequence[Checkpoint]) -> tuple[list[Row], list[Finding]]:
    """Everything that was logged, and what is wrong with it.

    Parameters
    ----------
    directory
        Where the checkpoints are.
    checkpoints
        By step; those that are not on this machine are not asked for their log.
    """
    last = checkpoints[-1]
    sources, findings = _trainer_state(checkpoints)
    _add_logs(sources, findings, directory, {"*.jsonl": read_jsonl, "*.csv": read_csv})
    if not any(sources.values()):
        _add_logs(sources, findings, directory, {EVENTS: read_tensorboard})
    if not sources:
        detail = f"{last.name} has no trainer_state.json, and there is no log: no losses, no learning rate"
        said = any(finding.kind == "history of another step" for finding in findings)
        return [], findings if said else [*findings, Finding(last.step, "no history", detail)]
    history: list[Row] = []
    for name, rows in sources.items():
        known = {(row.get("step"), key) for row in history for key in row if key != "step"}
        new = ({key: row[key] for key in row if (row.get("step"), key) not in known} for row in rows)
        kept, wrong = _checked((row for row in new if set(row) != {"step"}), name=name, last=last)
        history += kept
        findings += wrong
    return history, findings


def read_jsonl(file: Path) -> list[Row]:
    """A log with one JSON object a line; empty if none of the first lines has a step.

    A line that is not JSON is passed over: the last one is, where the run goes on.
    """
    rows: list[Row] = []
    with open(file, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = _row(json.loads(line))
            except (ValueError, RecursionError):
                row = None
            if row:
                rows.append(row)
            elif not rows and number == HEADING:
                break
    return rows


def read_csv(file: Path) -> list[Row]:
    """A table with a column `step`; empty if it has none. An empty cell was not logged."""
    with open(file, encoding="utf-8", errors="replace", newline="") as lines:
        table = csv.DictReader(line.replace("\0", "") for line in lines)
        if not set(STEP_NAMES) & set(table.fieldnames or ()):
            return []
        rows = (_row({name: _number(cell) for name, cell in cells.items()}) for cells in table)
        return [row for row in rows if row]


def read_tensorboard(file: Path) -> list[Row]:
    """The scalars of an event file, named as the Hugging Face Trainer names them.

    Raises
    ------
    InputError
        If the `tensorboard` package is not installed.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ModuleNotFoundError:
        raise InputError(
            f"{shown(file.name)} holds TensorBoard events; install babelscope[tensorboard] to read them"
        ) from None
    events = EventAccumulator(str(file), size_guidance={"scalars": 0})  # 0: all, not a sample
    events.Reload()
    rows: dict[int, Row] = defaultdict(dict)
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            rows[event.step] |= {"step": event.step, _trainer_name(tag): event.value}
    return [rows[step] for step in sorted(rows)]


def _trainer_name(tag: str) -> str:
    group, slash, name = tag.partition("/")
    return {"train": name, "eval": f"eval_{name}", "test": f"test_{name}"}.get(group, tag) if slash else tag


def _trainer_state(checkpoints: Sequence[Checkpoint]) -> tuple[dict[str, list[Row]], list[Finding]]:
    """The newest log that belongs to its checkpoint: the last one's, unless something is wrong with it."""
    logs, findings, others = {}, [], []
    for checkpoint in checkpoints:
        if not checkpoint.is_here or not (file := checkpoint.path / "trainer_state.json").exists():
            continue
        name = f"{checkpoint.name}/{file.name}"
        try:
            state = read_json(file)
            log, step = (
                [dict(entry) for entry in state["log_history"]],
                state.get("global_step", checkpoint.step),
            )
        except (InputError, OSError) as error:
            findings.append(Finding(checkpoint.step, "no history", f"{checkpoint.name}: {error}"))
            continue
        except (ValueError, KeyError, TypeError, AttributeError):
            findings.append(Finding(checkpoint.step, "no history", f"{name} holds no log_history"))
            continue
        if step == checkpoint.step:
            logs[checkpoint.step] = {name: log}
        else:
            detail = f"{name} is that of step {step}; its log is not used"
            others.append(Finding(checkpoint.step, "history of another step", detail))
    if len(others) > 1 and not logs:  # the folders count something else, such as epochs
        detail = f"{len(others)} folders disagree with their trainer_state.json, as in {others[0].detail}"
        others = [Finding(None, "history of another step", detail)]
    findings += others
    newest = max(logs, default=None)
    last = checkpoints[-1]
    if newest is not None and newest != last.step and last.step not in {finding.step for finding in findings}:
        detail = f"{last.name} has no trainer_state.json: what it holds ends with step {newest}"
        findings.append(Finding(last.step, "no history", detail))
    return logs[newest] if newest is not None else {}, findings


def _add_logs(
    sources: dict[str, list[Row]],
    findings: list[Finding],
    directory: Path,
    readers: dict[str, Callable[[Path], list[Row]]],
) -> None:
    for pattern, read in readers.items():
        for file in sorted(file for folder in FOLDERS for file in directory.glob(f"{folder}{pattern}")):
            name = shown(file.relative_to(directory))
            try:
                if rows := read(file):
                    sources[name] = rows
            except (InputError, OSError, csv.Error) as error:
                findings.append(Finding(None, "unread history", f"{name}: {error}"))


def _row(record: Any) -> Row | None:
    """The numbers of one logged record under `step`; None if it has no step."""
    if not isinstance(record, dict):
        return None
    name = next((name for name in STEP_NAMES if isinstance(record.get(name), int | float)), None)
    if name is None or record[name] % 1 != 0:
        return None
    numbers = {
        key: value
        for key, value in record.items()
        if key != name and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {"step": int(record[name])} | numbers


def _number(cell: object) -> float | None:
    try:
        return float(str(cell))
    except ValueError:
        return None


def _checked(rows: Iterable[Row], *, name: str, last: Checkpoint) -> tuple[list[Row], list[Finding]]:
    kept: list[Row] = []
    wrong: dict[str, list[int]] = defaultdict(list)
    beyond: list[int] = []
    for row in rows:
        step: Any = row.get("step")
        if isinstance(step, int) and step > last.step:
            beyond.append(step)
            continue
        broken = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        for key in broken:
            wrong[key].append(step)
        kept.append({key: value for key, value in row.items() if key not in broken})
    return kept, list(_findings(wrong, beyond, name=name, last=last))


def _findings(
    wrong: dict[str, list[int]], beyond: list[int], *, name: str, last: Checkpoint
) -> Iterator[Finding]:
    for key, steps in wrong.items():
        where = (
            f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps from {steps[0]} to {steps[-1]}"
        )
        yield Finding(steps[0], "non-finite history", f"{name}: {key} at {where}")
    if beyond:
        yield Finding(
            last.step,
            "history past the end",
            f"{name} goes on to step {max(beyond)}; {last.name} is the last checkpoint",
        )
