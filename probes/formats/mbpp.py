"""MBPP (Austin et al. 2021, arXiv 2108.07732; google-research): 974 problems in Python, told in a sentence.

They are asked as InCoder (Fried et al. 2022, arXiv 2204.05999) does: a docstring with the sentence and the
tests, on which the whole program follows.
"""

from __future__ import annotations

from babelscope.probes.code import CodeProblem
from babelscope.probes.formats import Format, Record, problem_id
from babelscope.probes.problems import Problem

ENDS_BEFORE = (r"^assert\b", r"^print\b", r'^"""', r"^```", r"^if __name__\b")


def _read(record: Record, language: str) -> CodeProblem:
    tests = "\n".join(record["test_list"])
    solution = record["code"].replace("\r\n", "\n")
    return CodeProblem(
        Problem(
            problem_id("MBPP", record["task_id"]),
            language,
            f'"""\n{record["text"]}\n{tests}\n"""\n',
            ends_before=ENDS_BEFORE,
        ),
        source="MBPP",
        tests=f"\n{record['test_setup_code']}\n{tests}\n",
        solution=solution,
    )


FORMAT = Format(
    name="MBPP",
    fields=frozenset({"task_id", "text", "code", "test_list", "test_setup_code"}),
    language=lambda record: "python",
    read=_read,
)
