"""What the sandbox adds to running one program, compiled where its language is compiled."""

from __future__ import annotations

import subprocess

from babelscope.core.languages import language
from babelscope.probes.code import CodeProblem, assemble
from babelscope.probes.execution import Runner
from babelscope.probes.limits import PATH
from babelscope.probes.problems import Problem
from babelscope.probes.sandbox import workspace
from babelscope.probes.toolchains import toolchain
from benchmarks.row import Row, Work


def _prepare(name: str) -> tuple[Work, Work]:
    problem = Problem(id="benchmark", language=name, prompt="")
    program = assemble(CodeProblem(problem, source="", tests=language(name).check.passes), "")
    runner, tools = Runner(workers=1), toolchain(name)
    assert tools is not None, f"install {name}"

    def sandboxed() -> None:
        (verdict,) = runner.run([program])
        assert verdict.solved, verdict

    def bare() -> None:
        with workspace() as folder:
            (folder / tools.source).write_text(program.text)
            for command in (tools.compile, tools.run):
                if command:
                    named = [part.replace("{entry}", "Main") for part in command]
                    environment = {"PATH": PATH, "HOME": str(folder), **tools.environment}
                    subprocess.run(named, check=True, capture_output=True, cwd=folder, env=environment)

    return sandboxed, bare


ROWS = {
    f"sandboxed {shown} / bare": Row(
        lambda name=name: _prepare(name), aim=30, aims_at="added_ms", rounds=rounds
    )
    for name, shown, rounds in (("php", "PHP", 41), ("python", "Python", 41), ("java", "Java", 15))
}
