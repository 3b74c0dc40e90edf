"""HumanEval (Chen et al. 2021, arXiv 2107.03374; openai/human-eval): 164 problems in Python.

Its tests define `check(candidate)`, to be called with the function.
"""

from __future__ import annotations

from babelscope.probes.code import CodeProblem
from babelscope.probes.completions import ends
from babelscope.probes.formats import Format, Record, problem_id
from babelscope.probes.problems import Problem


def checked(test: str, entry_point: str) -> str:
    """The tests with their call; the function gets a second name, since one of MBPP's is called `check`."""
    return f"\n_completed = {entry_point}\n{test}\ncheck(_completed)\n"


def _read(record: Record, language: str) -> CodeProblem:
    after, before = ends(language, record["prompt"])
    number = problem_id("HumanEval", record["task_id"])
    return CodeProblem(
        Problem(number, language, record["prompt"], ends_after=after, ends_before=before),
        source="HumanEval",
        tests=checked(record["test"], record["entry_point"]),
        solution=record["canonical_solution"],
    )


FORMAT = Format(
    name="HumanEval",
    fields=frozenset({"task_id", "prompt", "entry_point", "canonical_solution", "test"}),
    language=lambda record: "python",
    read=_read,
)
