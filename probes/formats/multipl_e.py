"""MultiPL-E (Cassano et al. 2023, arXiv 2208.08227; nuprl/MultiPL-E): HumanEval and MBPP translated by
programs into 18 languages.

What is changed in what is run (the prompts are as published), by language, is in `CHANGES` and `LENIENT`:

* JavaScript and TypeScript compare with `deepEqual`, by which "1" equals 1; ours is `deepStrictEqual`.
* PHP compares with `!==`, by which 1 differs from 1.0; here the weaker comparison takes numbers by value.
* Lua's tests end the program, and Ruby's run after its end; here both run where they stand, so that something
  can follow them.
* Go's are made for `go test`; a stand-in for `testing.T` and a `main` make a program of them.
* OCaml's write -1 as `(~1)` and -1.5 as `(~1).5`, which no compiler takes.
"""

from __future__ import annotations

import re

from babelscope.probes.code import CodeProblem
from babelscope.probes.completions import ends
from babelscope.probes.formats import Format, Record, problem_id
from babelscope.probes.problems import Problem

HUMANEVAL = 164  # problems; higher numbers are MultiPL-T's, which are written in the same way

GO_TESTS = r"""
var _ testing.TB

type testingT struct{}

func (t *testingT) Run(name string, test func(*testingT)) { test(t) }

func (t *testingT) Errorf(format string, values ...interface{}) { panic(fmt.Sprintf(format, values...)) }

func \1(t *testingT) {\2
func main() {
	\1(new(testingT))
}
"""
PHP_SAME = r"""function same($x, $y): bool {
    if (is_array($x) && is_array($y)) {
        return array_keys($x) === array_keys($y) && !in_array(false, array_map('same', $x, $y), true);
    }
    $numbers = (is_int($x) || is_float($x)) && (is_int($y) || is_float($y));
    return $numbers ? $x == $y : $x === $y;
}

function test(): void {"""
RUBY_RUN = """
Test::Unit::AutoRunner.need_auto_run = false
exit 1 unless Test::Unit::AutoRunner.run
"""

Changes = tuple[tuple[str, str], ...]  # regular expressions and their replacements, in this order

CHANGES: dict[str, Changes] = {
    "javascript": ((r"assert\.deepEqual\(", "assert.deepStrictEqual("),),
    "typescript": ((r"assert\.deepEqual\(", "assert.deepStrictEqual("),),
    "lua": ((r"os\.exit\(lu\.LuaUnit\.run\(\)\)", "if lu.LuaUnit.run() ~= 0 then os.exit(1) end"),),
    "ruby": ((r"\Z", RUBY_RUN),),
    "go": ((r"(?s)func (Test\w*)\(t \*testing\.T\) \{(.*)", GO_TESTS), (r"\*testing\.T\b", "*testingT")),
    "ocaml": ((r"\(~(\d+)\)(\.\d+)?", r"(-\1\2)"), (r"\(~(\d+\.\d*)\)", r"(-\1)")),
}
LENIENT: dict[str, Changes] = {
    "javascript": (),
    "typescript": (),
    "php": (
        (r"function test\(\): void \{", PHP_SAME),
        (r"(?m)^( *)if \((candidate\(.*\)) !== (.*)\) \{ throw", r"\1if (!same(\2, \3)) { throw"),
    ),
}
OPENING: dict[str, Changes] = {"go": ((r"^package \w+", "package main"),)}


def _read(record: Record, language: str) -> CodeProblem:
    prompt = record["prompt"]
    closes = re.match(r"\s*\}", record["tests"])
    closing = closes[0] if closes else ""
    tests = record["tests"].removeprefix(closing)
    family = "MBPP" if record["name"].lower().startswith("mbpp") else "HumanEval"
    number = problem_id(family, record["name"])
    if family == "HumanEval" and int(number.partition("/")[2] or 0) >= HUMANEVAL:
        number = record["name"]
    after, before = ends(language, prompt)
    return CodeProblem(
        Problem(number, language, prompt, ends_after=after, ends_before=before),
        source=f"MultiPL-E-{family}",
        tests=_changed(tests, CHANGES.get(language, ())),
        closing=closing,
        lenient_tests=_changed(tests, LENIENT[language]) if language in LENIENT else None,
        opening=_changed(prompt, OPENING[language]) if language in OPENING else None,
    )


def _changed(text: str, changes: Changes) -> str:
    for pattern, replacement in changes:
        text = re.sub(pattern, replacement, text)
    return text


FORMAT = Format(
    name="MultiPL-E",
    fields=frozenset({"name", "language", "prompt", "tests", "stop_tokens"}),
    language=lambda record: record["language"],
    read=_read,
)
