"""HumanEval-X (Zheng et al. 2023, arXiv 2303.17568; THUDM/CodeGeeX): HumanEval translated by hand.

Tests follow the completion as they are, but in Java, where completions are to close the class as well; ours
end with the function. Its Go and Rust are put together in other ways and are not read.
"""

from __future__ import annotations

from babelscope.core.errors import InputError
from babelscope.probes.code import CodeProblem
from babelscope.probes.completions import ends
from babelscope.probes.formats import Format, Record, problem_id
from babelscope.probes.problems import Problem

BEFORE = {"java": "}\n", "cpp": "", "javascript": "", "python": ""}


def _read(record: Record, language: str) -> CodeProblem:
    if language not in BEFORE:
        raise InputError(
            f"HumanEval-X is read in {', '.join(BEFORE)}, not in {language}; use MultiPL-E or mxeval"
        )
    prompt = record["prompt"]
    after, before = ends(language, prompt)
    return CodeProblem(
        Problem(
            problem_id("HumanEval", record["task_id"]),
            language,
            prompt,
            ends_after=after,
            ends_before=before,
        ),
        source="HumanEval-X",
        tests=BEFORE[language] + record["test"],
        solution=record["canonical_solution"],
    )


FORMAT = Format(
    name="HumanEval-X",
    fields=frozenset({"task_id", "prompt", "canonical_solution", "test", "declaration", "example_test"}),
    language=lambda record: record["task_id"].partition("/")[0].lower(),
    read=_read,
)
