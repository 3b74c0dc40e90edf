from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from babelscope.core.errors import InputError
from babelscope.core.languages import known
from babelscope.probes.code import assemble
from babelscope.probes.execution import FIRST, SECOND
from babelscope.probes.formats import aligned, flaws, load_dataset_records, problem_id, read_problems
from tests.probes.code_examples import data

RECORDS: dict[str, dict[str, Any]] = {  # of each format's fields, in words of our own
    "HumanEval": {
        "task_id": "HumanEval/7",
        "prompt": 'def double(x):\n    """Twice x."""\n',
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    },
    "MBXP": {
        "task_id": "MBRBP/7",
        "prompt": "# Twice x.\ndef double(x)",
        "entry_point": "double",
        "canonical_solution": "\n  2 * x\nend",
        "test": "raise 'wrong' if double(2) != 4\n",
        "language": "ruby",
        "description": "Twice x.",
    },
    "MultiPL-E-MBPP": {
        "name": "mbpp_7_double",
        "language": "rs",
        "prompt": "/// Twice x.\nfn double(x: isize) -> isize {\n",
        "doctests": "transform",
        "original": "7.py",
        "prompt_terminology": "reworded",
        "tests": "}\n\nfn main() {\n    assert_eq!(double(2), 4);\n}\n",
        "stop_tokens": ["\n}"],
    },
    "HumanEval-X": {
        "task_id": "CPP/7",
        "prompt": "// Twice x.\nint twice(int x) {\n",
        "canonical_solution": "    return 2 * x;\n}\n",
        "test": "#include <cassert>\nint main() {\n    assert(twice(2) == 4);\n}\n",
        "declaration": "int twice(int x) {\n",
        "example_test": "",
    },
    "MBPP": {
        "task_id": 7,
        "text": "Write a function double that gives twice x.",
        "code": "def double(x):\r\n  return 2 * x",
        "test_list": ["assert double(2) == 4"],
        "test_setup_code": "",
        "challenge_test_list": [],
    },
}
LANGUAGES = {
    "HumanEval": "python",
    "MBXP": "ruby",
    "MultiPL-E-MBPP": "rust",
    "HumanEval-X": "cpp",
    "MBPP": "python",
}
IDS = {"HumanEval": "HumanEval/7", "HumanEval-X": "HumanEval/7"}


def written(path: Path, *records: dict[str, Any]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_set_is_recognised_by_its_fields(name: str, tmp_path: Path) -> None:
    [suite] = read_problems(written(tmp_path / "a.jsonl", RECORDS[name]))
    [code] = suite.problems
    assert (suite.name, suite.language, code.source) == (name, LANGUAGES[name], name)
    assert code.problem.id == IDS.get(name, "MBPP/7")
    text = assemble(code, code.solution or "    2 * x\n}").text
    assert text.count(FIRST) == text.count(SECOND) == 1


def test_files_of_three_kinds_and_directories_of_them_hold_the_same_problems(tmp_path: Path) -> None:
    import pandas

    record = RECORDS["MBPP"]
    (tmp_path / "all").mkdir()
    other = {**record, "task_id": 8}
    plain = written(tmp_path / "a.jsonl", record, other)
    zipped = written(tmp_path / "all" / "a.jsonl.gz", record)
    table = tmp_path / "all" / "b.parquet"
    pandas.DataFrame([other]).to_parquet(table)
    assert read_problems(plain) == read_problems(tmp_path / "all")
    assert [len(read_problems(file)[0]) for file in (plain, zipped, table)] == [2, 1, 1]


def test_what_datasets_loads_are_the_same_records(tmp_path: Path) -> None:
    written(tmp_path / "test.jsonl", RECORDS["HumanEval"])
    assert [dict(record) for record in load_dataset_records(str(tmp_path))] == [RECORDS["HumanEval"]]


def test_a_set_without_a_test_split_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", RECORDS["HumanEval"])
    with pytest.raises(InputError, match="no test split; it has train"):
        load_dataset_records(str(tmp_path))


def test_unknown_fields_are_listed_beside_the_known(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"question": "1 + 1", "answer": "2"})
    with pytest.raises(InputError, match="record 1 has the fields answer, question; known are HumanEval: "):
        read_problems(path)


@pytest.mark.parametrize("source", ["nothing.jsonl", "here/nor/there", "openai"])
def test_a_source_that_is_nowhere_is_refused_by_name(source: str) -> None:
    with pytest.raises(InputError, match=source):
        read_problems(source)


def test_one_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HumanEval/7 twice"):
        read_problems(written(tmp_path / "a.jsonl", RECORDS["HumanEval"], RECORDS["HumanEval"]))


def test_of_several_languages_one_can_be_kept_by_any_of_its_names(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", RECORDS["MultiPL-E-MBPP"], {**RECORDS["MBXP"], "language": "kotlin"})
    assert [suite.language for suite in read_problems(path, language="rs")] == ["rust"]
    with pytest.raises(InputError, match="kotlin"):
        read_problems(path)
    with pytest.raises(InputError, match="no problems in lua"):
        read_problems(path, language="lua")


@pytest.mark.parametrize(
    ("family", "text", "expected"),
    [
        ("HumanEval", "HumanEval/23", "HumanEval/23"),
        ("HumanEval", "HumanEval_23_strlen", "HumanEval/23"),
        ("HumanEval", "HumanEval_php/23", "HumanEval/23"),
        ("HumanEval", "JavaScript/23", "HumanEval/23"),
        ("MBPP", "MBPHP/56", "MBPP/56"),
        ("MBPP", "mbpp_56_check", "MBPP/56"),
        ("MBPP", 56, "MBPP/56"),
        ("MBPP", "mbpp_2_sum_of_3", "MBPP/2"),
    ],
)
def test_a_task_has_one_id_in_every_format(family: str, text: str | int, expected: str) -> None:
    assert problem_id(family, text) == expected


def test_problems_of_multipl_t_are_not_taken_for_humanevals() -> None:
    [suite] = read_problems(data("multiplt/lua-prompts.jsonl.gz"))
    assert not any(code.problem.id.startswith("HumanEval/") for code in suite.problems)
    assert len({code.problem.id for code in suite.problems}) == 1000


def test_one_id_is_one_task_in_mbxp() -> None:
    with gzip.open(data("mbxp/mbpp_release_v1.jsonl.gz"), "rt") as lines:
        asks = {problem_id("MBPP", record["task_id"]): _asked(record) for record in map(json.loads, lines)}
    for path in sorted(data("mbxp").glob("*_v1.2.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            same = Counter(
                asks[problem_id("MBPP", record["task_id"])] == _asked(record)
                for record in map(json.loads, lines)
            )
        assert same[True] > 0.97 * same.total(), path.name  # some were worded anew


def _asked(record: dict[str, Any]) -> str:
    """What is asked, without the language's name."""
    return re.sub(r"\b(python|php|java|c\+\+|c#)", "", record["description"], flags=re.IGNORECASE).strip()


def test_aligned_suites_ask_the_same_in_the_same_order() -> None:
    suites = [
        suite
        for suite in read_problems(data("multipl_e_humaneval"), flawed=True)
        if suite.name == "MultiPL-E-HumanEval" and suite.language != "ocaml"
    ]
    assert len(suites) == 14
    shared = aligned(suites)
    assert {len(suite) for suite in shared} == {150}
    ids = [code.problem.id for code in shared[0].problems]
    assert all([code.problem.id for code in suite.problems] == ids for suite in shared)
    assert ids == sorted(ids, key=lambda text: int(text.split("/")[1]))
    again = aligned([*shared, *read_problems(data("humaneval"))])
    assert [code.problem.id for code in again[-1].problems] == ids


def test_suites_that_share_nothing_are_not_aligned(tmp_path: Path) -> None:
    humaneval = read_problems(written(tmp_path / "a.jsonl", RECORDS["HumanEval"]))
    with pytest.raises(InputError, match=r"HumanEval \(python\), MBPP \(python\) share no ids"):
        aligned([*humaneval, *read_problems(written(tmp_path / "b.jsonl", RECORDS["MBPP"]))])


def test_what_no_program_can_solve_is_left_out_with_its_reason() -> None:
    path = data("multipl_e_humaneval/humaneval-php.jsonl.gz")
    [suite], [whole] = read_problems(path), read_problems(path, flawed=True)
    assert "strlen" in suite.left_out["HumanEval/23"]
    assert len(suite) + len(suite.left_out) == len(whole) == 161
    assert not whole.left_out


def test_every_known_flaw_is_in_its_set() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for folder in ("multipl_e_humaneval", "mxeval_humaneval", "mbxp", "humaneval_x"):
        for suite in read_problems(data(folder), flawed=True):
            found[suite.name, suite.language] = {code.problem.id for code in suite.problems}
    for key, ids in flaws().items():
        assert ids.keys() <= found[key], key


@pytest.mark.parametrize(
    "folder", ["humaneval", "humaneval_x", "mbxp", "mxeval_humaneval", "multipl_e_humaneval"]
)
def test_every_published_problem_can_be_put_together(folder: str) -> None:
    for suite in read_problems(data(folder), flawed=True):
        for code in suite.problems:
            for lenient in (False, True):
                text = assemble(code, "COMPLETION", lenient=lenient).text
                marker = (
                    known()[suite.language].tests.marker.replace("{first}", FIRST).replace("{second}", SECOND)
                )
                assert text.count(marker) == 1, code.problem.id
                assert text.index("COMPLETION") < text.index(marker)


@pytest.mark.parametrize(
    ("path", "ours", "theirs"),
    [
        ("mxeval_humaneval/HumanEval_php_v1.1.jsonl.gz", r"\$x === \$y", r"return \$x == \$y;"),
        ("mxeval_humaneval/HumanEval_javascript_v1.1.jsonl.gz", "isDeepStrictEqual", "unsigned"),
        ("mxeval_humaneval/HumanEval_typescript_v1.jsonl.gz", "deepStrictEqual", r"\.deepEqual"),
        ("multipl_e_humaneval/humaneval-js.jsonl.gz", "deepStrictEqual", r"\.deepEqual"),
        ("multipl_e_humaneval/humaneval-ts.jsonl.gz", "deepStrictEqual", r"\.deepEqual"),
        ("multipl_e_humaneval/humaneval-php.jsonl.gz", "!==", r"!same\("),
    ],
)
def test_every_loose_comparison_has_a_strict_one(path: str, ours: str, theirs: str) -> None:
    [suite] = read_problems(data(path))
    for code in suite.problems:
        assert code.lenient_tests is not None
        assert re.search(ours, code.tests)
        assert not re.search(theirs, code.tests)
        assert re.search(theirs, code.lenient_tests)
        assert "lodash" not in code.tests + code.lenient_tests


@pytest.mark.slow
def test_what_is_left_out_in_ocaml_is_what_does_not_type_check(tmp_path: Path) -> None:
    compiler = shutil.which("ocamlc")
    if compiler is None:
        pytest.skip("ocamlc is missing (Debian: ocaml-nox)")
    source = tmp_path / "a.ml"
    for suite in read_problems(data("multipl_e_humaneval"), language="ocaml", flawed=True):
        wrong = set()
        for code in suite.problems:
            source.write_text(f"{code.problem.prompt} Obj.magic 0\n{code.tests}", encoding="utf-8")
            if subprocess.run(
                [compiler, "-w", "-a", "-i", source], capture_output=True, check=False
            ).returncode:
                wrong.add(code.problem.id)
        assert wrong == flaws()[suite.name, "ocaml"].keys()
