"""Do the primer's tests notice broken solutions?  `python -m tests.primer_mutants` asks of every one.

Every solution is broken in one place at a time (`babelscope.probes.mutants`). A copy counts if it differs
from the solution on one of the problem's 1,000 generated inputs; the tests are among these, so only copies
that pass the tests are held against all of them. Copies that do not compile do not count.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from babelscope.probes.code import assemble
from babelscope.probes.execution import Runner
from babelscope.probes.limits import Limits
from babelscope.probes.mutants import Mutant
from babelscope.probes.primer import Example, Task, broken, primer, task_languages, tasks
from babelscope.probes.verdicts import VerdictCache
from tests.primer_tests import solution

SECONDS = 3  # many broken copies never end


@dataclass(frozen=True)
class Noticed:
    """What became of the broken copies of one solution."""

    noticed: int
    survivors: Sequence[Mutant]
    same: int
    stillborn: int


def on_all_inputs(task: Task) -> list[Example]:
    """The generated inputs with the Python solution's results."""
    right = solution(task)
    return [Example(given=tuple(given), gives=right(*json.loads(json.dumps(given)))) for given in task.draw()]


def hold(task: Task, language: str, runner: Runner) -> Noticed:
    """Run every broken copy of the task's solution in a language."""
    code = next(one for one in primer([language]) if one.problem.id == f"primer/{task.name}")
    long = replace(code, tests=task.suite(language, on_all_inputs(task)))
    prompt = len(code.problem.prompt)
    copies = broken(task, language)
    verdicts = runner.run([assemble(code, copy.text[prompt:]) for copy in copies])
    compiled = [(c, v) for c, v in zip(copies, verdicts, strict=True) if v.reason != "does not compile"]
    passing = [copy for copy, verdict in compiled if verdict.solved]
    everywhere = runner.run([assemble(long, copy.text[prompt:]) for copy in passing])
    survivors = [copy for copy, verdict in zip(passing, everywhere, strict=True) if not verdict.solved]
    return Noticed(
        noticed=len(compiled) - len(passing),
        survivors=survivors,
        same=len(passing) - len(survivors),
        stillborn=len(copies) - len(compiled),
    )


def main(languages: Sequence[str]) -> None:
    verdicts = VerdictCache(Path("primer_mutants.sqlite"))
    runner = Runner(verdicts=verdicts, limits=Limits(cpu_seconds=SECONDS, memory_mib=2048))
    print("| language | noticed | survive | share | same as the solution | do not compile |")
    print("|---|---|---|---|---|---|")
    listed = []
    for language in languages:
        found = {name: hold(task, language, runner) for name, task in tasks().items()}
        noticed = sum(one.noticed for one in found.values())
        left = [(name, mutant) for name, one in found.items() for mutant in one.survivors]
        same, stillborn = (
            sum(getattr(one, part) for one in found.values()) for part in ("same", "stillborn")
        )
        share = noticed / (noticed + len(left))
        print(f"| {language} | {noticed} | {len(left)} | {share:.1%} | {same} | {stillborn} |", flush=True)
        listed += [
            f"* {language}, {name}: `{m.was}` → `{m.became}` in `{m.text.splitlines()[m.line - 1].strip()}`"
            for name, m in left
        ]
    print("\n" + "\n".join(listed))


if __name__ == "__main__":
    main(sys.argv[1:] or task_languages())
