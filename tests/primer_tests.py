"""Chooses the tests of primer problems: `python -m tests.primer_tests [NAME...]` writes them into its files.

From the problem's 1,000 generated inputs it takes those that tell the most broken copies of the Python
solution from the solution, one after another, then short ones, until there are enough. Expected values are
the Python solution's. Run it for a new problem; `tests/probes/test_primer.py` then checks all languages.
"""

from __future__ import annotations

import copy
import json
import re
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from babelscope.probes.primer import DATA, Task, broken, tasks

FEWEST, MOST = 12, 24
ENDLESS = 5  # times that a broken copy may not end; each takes LIMIT seconds
LIMIT = 0.1


def function(task: Task, text: str) -> Callable[..., Any]:
    """The Python function in `text`, which is this project's own or a broken copy of it."""
    space: dict[str, Any] = {}
    exec(text, space)  # noqa: S102
    return space[task.name]


def solution(task: Task) -> Callable[..., Any]:
    """The task's Python solution."""
    return function(task, task.prompt("python") + task.solutions["python"])


def result(call: Callable[..., Any], given: list[Any]) -> str:
    """What it returns, or that it fails or does not end."""
    try:
        with _limited():
            return json.dumps(call(*copy.deepcopy(given)))
    except Exception as error:  # noqa: BLE001 - whatever a broken copy does is its result
        return type(error).__name__


@contextmanager
def _limited():
    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def choose(task: Task) -> list[tuple[list[Any], Any]]:
    """Inputs and results: the first two are shown in the prompt, so they are simple but not trivial."""
    inputs = list(task.draw())
    distinct = {json.dumps(given): given for given in inputs}
    inputs = sorted(distinct.values(), key=lambda given: (len(json.dumps(given)), json.dumps(given)))
    right = solution(task)
    wanted = [result(right, given) for given in inputs]
    copies = [function(task, mutant.text) for mutant in broken(task, "python")]
    tells = [set() for _ in inputs]
    for number, call in enumerate(copies):
        endless = 0
        for place, given in enumerate(inputs):
            found = result(call, given)
            if found != wanted[place]:
                tells[place].add(number)
                endless += found == TimeoutError.__name__
                if endless == ENDLESS:
                    break
    chosen: list[int] = []
    for again in range(2):  # each copy is told by two tests, where there are two
        left = set.union(*tells)
        while left:
            free = [place for place in range(len(inputs)) if place not in chosen]
            best = max(free, key=lambda place: (len(tells[place] & left), -len(json.dumps(inputs[place]))))
            if not tells[best] & left or len(chosen) >= MOST - 4 * (1 - again):
                break
            chosen.append(best)
            left -= tells[best]
    steps = max(1, len(inputs) // FEWEST)
    for place in [0, *range(steps // 2, len(inputs), steps)]:
        if len(chosen) < FEWEST and place not in chosen:
            chosen.append(place)
    results = [wanted[place] for place in chosen]
    middle = sorted(chosen, key=lambda place: (results.count(wanted[place]), abs(place - len(inputs) // 3)))
    shown = [middle[0], next((p for p in middle if wanted[p] != wanted[middle[0]]), middle[1])]
    order = [*shown, *(place for place in chosen if place not in shown)]
    return [(inputs[place], json.loads(wanted[place])) for place in order]


def write(name: str) -> None:
    """Put the tests into the problem's file."""
    path = DATA / f"{name}.toml"
    text = path.read_text()
    text = re.sub(r"^tests = \[\n.*?^\]\n\n?", "", text, flags=re.DOTALL | re.MULTILINE)
    task = Task.from_toml(path).model_copy(update={"tests": ()})
    lines = "".join(
        f"    {{ given = {_toml(given)}, gives = {_toml(gives)} }},\n" for given, gives in choose(task)
    )
    head, mark, rest = text.partition("[solutions]\n")
    path.write_text(f"{head.rstrip()}\ntests = [\n{lines}]\n\n{mark}{rest}")


def _toml(value: Any) -> str:
    return json.dumps(value)  # for numbers, booleans, plain strings and lists the same


if __name__ == "__main__":
    for each in sys.argv[1:] or tasks():
        write(each)
        print(each, len(Task.from_toml(DATA / f"{each}.toml").tests))
