"""mxeval (Athiwaratkun et al. 2023, arXiv 2210.14868; amazon-science/mxeval): HumanEval and MBPP ("MBXP")
translated, with tests, into a dozen languages.

What is changed in its tests, by language, is in `STRICT` (how we compare) and `LENIENT` (how mxeval compares,
or as near to it as goes without its libraries):

* PHP compares with `==`, by which "0" equals 0 and [] equals false. Ours is type-strict, but an int equals a
  float of the same value: expected values are floats where Python's were, and PHP's functions give either.
* JavaScript compares with lodash's `isEqual`, which is Node's `isDeepStrictEqual` but that 0 equals -0.
* TypeScript compares with `deepEqual`, by which "1" equals 1, and imports `assert` so that Node's types are
  needed.
* C# compares with a library that a stand-in of the same name replaces.
* Java's completions are to close the class as well; ours end with the function.
"""

from __future__ import annotations

from babelscope.probes.code import CodeProblem
from babelscope.probes.completions import ends
from babelscope.probes.formats import Format, Record, problem_id
from babelscope.probes.formats.humaneval import checked
from babelscope.probes.problems import Problem

PHP_STRICT = """function compare($x, $y) {
    if (is_array($x) && is_array($y)) {
        foreach ($x as $key => $value) {
            if (!array_key_exists($key, $y) || !compare($value, $y[$key])) { return false; }
        }
        return count($x) === count($y);
    }
    $numbers = (is_int($x) || is_float($x)) && (is_int($y) || is_float($y));
    return $numbers ? $x == $y : $x === $y;
}"""
JAVASCRIPT_UNSIGNED = "const unsigned = (x) => x === 0 ? 0 : Array.isArray(x) ? x.map(unsigned) : x\n"
CSHARP_COMPARISON = """
namespace KellermanSoftware.CompareNetObjects
{
    public class ComparisonResult { public bool AreEqual; }

    public class CompareLogic
    {
        public ComparisonResult Compare(object got, object wanted)
        {
            return new ComparisonResult { AreEqual = Same(got, wanted) };
        }

        static bool Same(object got, object wanted)
        {
            if (got == null || wanted == null) return got == wanted;
            if (got.GetType() != wanted.GetType()) return false;
            if (got is System.Collections.IDictionary these && wanted is System.Collections.IDictionary those)
                return these.Count == those.Count && these.Keys.Cast<object>().All(
                    key => those.Contains(key) && Same(these[key], those[key]));
            if (got is string || !(got is System.Collections.IEnumerable)) return got.Equals(wanted);
            var left = ((System.Collections.IEnumerable)got).Cast<object>().ToList();
            var right = ((System.Collections.IEnumerable)wanted).Cast<object>().ToList();
            return left.Count == right.Count && left.Zip(right, Same).All(same => same);
        }
    }
}
"""
LODASH, IS_EQUAL = 'const _ = require("lodash")\n', "_.isEqual(object1, object2)"
DEEP_EQUAL = 'require("util").isDeepStrictEqual'
TYPESCRIPT_IMPORT = (
    "import * as assert from 'assert'",
    "declare var require: any;\nconst assert = require('assert');",
)

Changes = tuple[tuple[str, str], ...]

STRICT: dict[str, Changes] = {
    "php": (("function compare($x, $y) {\n    return $x == $y;\n}", PHP_STRICT),),
    "javascript": ((LODASH, ""), (IS_EQUAL, f"{DEEP_EQUAL}(object1, object2)")),
    "typescript": (TYPESCRIPT_IMPORT, ("assert.deepEqual(", "assert.deepStrictEqual(")),
}
LENIENT: dict[str, Changes] = {
    "php": (),
    "javascript": (
        (LODASH, JAVASCRIPT_UNSIGNED),
        (IS_EQUAL, f"{DEEP_EQUAL}(unsigned(object1), unsigned(object2))"),
    ),
    "typescript": (TYPESCRIPT_IMPORT,),
}
BEFORE = {"java": "}\n"}
AFTER = {"csharp": CSHARP_COMPARISON}


def _read(record: Record, language: str) -> CodeProblem:
    family = "MBPP" if record["task_id"].startswith("MB") else "HumanEval"
    after, before = ends(language, record["prompt"])
    tests = BEFORE.get(language, "") + record["test"] + AFTER.get(language, "")
    if language == "python":
        tests = checked(tests, record["entry_point"])
    return CodeProblem(
        Problem(
            problem_id(family, record["task_id"]),
            language,
            record["prompt"],
            ends_after=after,
            ends_before=before,
        ),
        source="MBXP" if family == "MBPP" else "mxeval-HumanEval",
        tests=_changed(tests, STRICT.get(language, ())),
        lenient_tests=_changed(tests, LENIENT[language]) if language in LENIENT else None,
        solution=record["canonical_solution"],
    )


def _changed(text: str, changes: Changes) -> str:
    for old, new in changes:
        text = text.replace(old, new)
    return text


FORMAT = Format(
    name="mxeval",
    fields=frozenset(
        {"task_id", "prompt", "entry_point", "canonical_solution", "test", "language", "description"}
    ),
    language=lambda record: record["language"],
    read=_read,
)
