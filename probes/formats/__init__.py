"""Readers of problem sets, in the files that others publish: HumanEval, mxeval (multilingual HumanEval and
MBXP), MultiPL-E, HumanEval-X, MBPP.

A set is recognised by the fields of its records. Ids are the same in every language and format:
`HumanEval_23_strlen`, `HumanEval_php/23` and `JavaScript/23` are all "HumanEval/23", so that curves are
compared on shared problems.

A new format is one new file beside this one that holds a `FORMAT`; nothing else is edited.
"""

from __future__ import annotations

import gzip
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import Field

from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.languages import language as find_language
from babelscope.probes.code import CodeProblem, trimmed

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
FLAWS = Path(__file__).parent / "flaws.toml"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """How one family of data sets writes its problems.

    Attributes
    ----------
    fields
        What every record has, and what the format is recognised by.
    language
        The record's language, in the set's own words.
    read
        The record as a problem, of the language by the name that is used here.
    """

    name: str
    fields: frozenset[str]
    language: Callable[[Record], str]
    read: Callable[[Record, str], CodeProblem]


@dataclass(frozen=True)
class Suite:
    """The problems of one set in one language.

    Attributes
    ----------
    left_out
        Problems that no program can solve, with the reason, by id.
    """

    name: str
    language: str
    problems: tuple[CodeProblem, ...]
    left_out: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.problems)


class Flaw(Strict):
    """Problems of a set that no program can solve, for one reason."""

    set: str
    language: str
    ids: tuple[str, ...] = Field(min_length=1)
    reason: str


class Flaws(Strict):
    """Every known flaw."""

    flaws: tuple[Flaw, ...]


@cache
def formats() -> Mapping[str, Format]:
    """Every format by name: the `FORMAT` of each module of this package."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: list[Format] = [import_module(f"{__name__}.{name}").FORMAT for name in names]
    return {one.name: one for one in found}


@cache
def flaws() -> Mapping[tuple[str, str], Mapping[str, str]]:
    """By set and language: the ids that no program can solve, and why."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for flaw in Flaws.from_toml(FLAWS).flaws:
        found.setdefault((flaw.set, flaw.language), {}).update(dict.fromkeys(flaw.ids, flaw.reason))
    return found


def read_problems(source: str | Path, *, language: str | None = None, flawed: bool = False) -> list[Suite]:
    """The problems in `source`, a suite per set and language.

    Parameters
    ----------
    source
        A `.jsonl`, `.jsonl.gz` or `.parquet` file, a directory of them, or a data set that `datasets` loads:
        "openai/openai_humaneval", "nuprl/MultiPL-E:humaneval-php" (its name, a colon, its configuration).
    language
        Keep this one only.
    flawed
        Keep also the problems that no program can solve.

    Raises
    ------
    InputError
        If the source is not there, a record is of no known format or language, or an id occurs twice.
    """
    wanted = None if language is None else find_language(language).name
    found: dict[tuple[str, str], dict[str, CodeProblem]] = {}
    for origin, record in _records(source):
        how = _recognised(record, origin)
        own = how.language(record)
        if wanted is not None and not _is(own, wanted):
            continue
        code = trimmed(how.read(record, find_language(own).name))
        suite = found.setdefault((code.source, code.problem.language), {})
        if code.problem.id in suite:
            raise InputError(
                f"{origin}: {code.source} in {code.problem.language} has {code.problem.id} twice"
            )
        suite[code.problem.id] = code
    if not found:
        raise InputError(f"{source} holds no problems" + (f" in {language}" if language else ""))
    return [_suite(*key, problems, flawed=flawed) for key, problems in found.items()]


def aligned(suites: Sequence[Suite]) -> list[Suite]:
    """The suites with the ids that all of them have, in the order of the numbers.

    Raises
    ------
    InputError
        If they share none.
    """
    shared = set.intersection(*({code.problem.id for code in suite.problems} for suite in suites))
    if not shared:
        raise InputError(
            f"{', '.join(f'{suite.name} ({suite.language})' for suite in suites)} share no ids; "
            "give sets of the same problems, or fewer languages"
        )
    return [
        replace(
            suite,
            problems=tuple(
                sorted((code for code in suite.problems if code.problem.id in shared), key=_by_number)
            ),
        )
        for suite in suites
    ]


def problem_id(family: str, written: str | int) -> str:
    """`family`/number, where `written` is any set's way of saying so; other names are ids as they are."""
    number = re.search(r"(?:^|[/_])(\d+)(?:_|$)", str(written))
    return f"{family}/{int(number[1])}" if number else str(written)


def _suite(name: str, language: str, problems: Mapping[str, CodeProblem], *, flawed: bool) -> Suite:
    known = {} if flawed else flaws().get((name, language), {})
    kept = tuple(code for number, code in problems.items() if number not in known)
    return Suite(name, language, kept, {number: why for number, why in known.items() if number in problems})


def _recognised(record: Record, origin: str) -> Format:
    fitting = [one for one in formats().values() if one.fields <= record.keys()]
    if not fitting:
        known = "; ".join(f"{one.name}: {', '.join(sorted(one.fields))}" for one in formats().values())
        raise InputError(f"{origin} has the fields {', '.join(sorted(record))}; known are {known}")
    return max(fitting, key=lambda one: len(one.fields))


def _is(written: str, wanted: str) -> bool:
    found = find_language(wanted)
    return written.lower() in (found.name, *found.also)


def _by_number(code: CodeProblem) -> tuple[str, int]:
    family, _, number = code.problem.id.partition("/")
    return family, int(number) if number.isdigit() else 0


def _records(source: str | Path) -> Iterator[tuple[str, Record]]:
    """Each record with where it is, for messages."""
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.endswith(ENDINGS))
        if not files:
            raise InputError(f"{path} has no {', '.join(ENDINGS)} files")
    elif path.exists():
        files = [path]
    else:
        yield from _numbered(str(source), _loaded(str(source)))
        return
    for file in files:
        yield from _numbered(str(file), _from_file(file))


def _numbered(origin: str, records: Iterable[Record]) -> Iterator[tuple[str, Record]]:
    return ((f"{origin}, record {number}", record) for number, record in enumerate(records, start=1))


def _from_file(path: Path) -> Iterator[Record]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        yield from parquet.read_table(path).to_pylist()
        return
    if not path.name.endswith(ENDINGS):
        raise InputError(f"{path} is none of {', '.join(ENDINGS)}")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}, is not JSON: {error}") from None
            if record is not None:
                yield record


def _loaded(name: str) -> Iterable[Record]:
    """The test split, as `datasets` finds it."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", name):
        raise InputError(
            f"{name} does not exist, and is no name of a data set such as openai/openai_humaneval"
        )
    return load_dataset_records(*name.split(":"))


def load_dataset_records(name: str, configuration: str | None = None) -> Iterable[Record]:
    """The test split of a data set that `datasets` loads.

    Raises
    ------
    InputError
        If it cannot be loaded, in the library's own words, or has no test split.
    """
    import datasets

    try:
        splits: Any = datasets.load_dataset(name, configuration)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is no path here, and `datasets` cannot load it: {error}") from None
    if "test" not in splits:
        raise InputError(f"{name} has no test split; it has {', '.join(splits)}")
    return splits["test"]
