"""Whether languages can be judged here: each one's right and wrong program, run as completions are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from babelscope.core.languages import language
from babelscope.probes.code import CodeProblem, assemble
from babelscope.probes.execution import Program, Runner
from babelscope.probes.problems import Problem, Verdict


class Check(NamedTuple):
    """Verdicts on a program whose tests pass, and on one whose tests fail."""

    passes: Verdict
    fails: Verdict

    @property
    def told_apart(self) -> bool | None:
        """None where nothing was run."""
        if self.passes.solved is None:
            return None
        return self.passes.solved and self.fails.reason == "failed"


def check(names: Sequence[str], runner: Runner) -> dict[str, Check]:
    """Run both programs of each language."""
    checks = [language(name).check for name in names]
    passes = [_program(name, one.passes) for name, one in zip(names, checks, strict=True)]
    fails = [_program(name, one.fails) for name, one in zip(names, checks, strict=True)]
    verdicts = runner.run(passes + fails)
    right, wrong = verdicts[: len(names)], verdicts[len(names) :]
    return {name: Check(*both) for name, *both in zip(names, right, wrong, strict=True)}


def _program(name: str, text: str) -> Program:
    return assemble(
        CodeProblem(Problem(id="check", language=name, prompt=""), source="check", tests=text), ""
    )
