"""Programs written for these tests: right and wrong completions of two MultiPL-E problems, and what leaves early."""

# ruff: noqa: E501  (a program is a line)

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from babelscope.probes.code import CodeProblem
from babelscope.probes.completions import cut
from babelscope.probes.formats import read_problems
from babelscope.probes.problems import Attempt

# HumanEval/42: every element plus one; the wrong ones add two, or nothing.
PLUS_ONE = {
    "cpp": "    for (auto& x : l) x += 1;\n    return l;\n}\n",
    "csharp": "        return l.Select(x => x + 1).ToList();\n    }\n",
    "go": "    out := []int{}\n    for _, x := range l {\n        out = append(out, x + 1)\n    }\n    return out\n}\n",
    "java": "        ArrayList<Long> out = new ArrayList<>();\n        for (long x : l) out.add(x + 1);\n        return out;\n    }\n",
    "javascript": "  return l.map(x => x + 1);\n}\n",
    "lua": "    local out = {}\n\n    for i, x in ipairs(l) do\n        out[i] = x + 1\n    end\n    return out\nend\n",
    "ocaml": "\n  List.map (fun x -> x + 1) l\n",
    "php": "    return array_map(fn($x) => $x + 1, $l);\n}\n",
    "r": "\n    if (length(l) == 0) return(c())\n    return(l + 1)\n}\n",
    "racket": "  (map (lambda (x) (+ x 1)) l))\n",
    "ruby": "  out = []\n\n  l.each { |x| out << x + 1 }\n  out\nend\n",
    "rust": "    l.iter().map(|x| x + 1).collect()\n}\n",
    "typescript": "  return l.map(x => x + 1);\n}\n",
}
# HumanEval/85: the sum of the even elements at odd places; the wrong ones take odd elements.
SUM_EVEN = {
    "cpp": "    long s = 0;\n    for (size_t i = 1; i < lst.size(); i += 2) if (lst[i] % 2 == 0) s += lst[i];\n    return s;\n}\n",
    "csharp": "        long s = 0;\n        for (int i = 1; i < lst.Count; i += 2) {\n            if (lst[i] % 2 == 0) s += lst[i];\n        }\n        return s;\n    }\n",
    "go": "    s := 0\n    for i := 1; i < len(lst); i += 2 {\n        if lst[i] % 2 == 0 {\n            s += lst[i]\n        }\n    }\n    return s\n}\n",
    "java": "        long s = 0;\n        for (int i = 1; i < lst.size(); i += 2) if (lst.get(i) % 2 == 0) s += lst.get(i);\n        return s;\n    }\n",
    "javascript": "  return lst.filter((x, i) => i % 2 === 1 && x % 2 == 0).reduce((a, b) => a + b, 0);\n}\n",
    "lua": "    local s = 0\n    for i = 2, #lst, 2 do\n        if lst[i] % 2 == 0 then s = s + lst[i] end\n    end\n    return s\nend\n",
    "ocaml": "\n  let rec go i s = function\n    | [] -> s\n    | x :: rest -> go (i + 1) (if i mod 2 = 1 && x mod 2 == 0 then s + x else s) rest in\n\n  go 0 0 lst\n",
    "php": "    $s = 0;\n    foreach ($lst as $i => $x) {\n        if ($i % 2 === 1 && $x % 2 == 0) { $s += $x; }\n    }\n    return $s;\n}\n",
    "r": "\n    s <- 0\n    for (i in seq_along(lst)) {\n        if (i %% 2 == 0 && lst[i] %% 2 == 0) s <- s + lst[i]\n    }\n    s\n}\n",
    "racket": "  (for/sum ([x lst] [i (in-naturals)]\n            #:when (and (odd? i) (= 0 (modulo x 2))))\n    x))\n",
    "ruby": "  lst.each_with_index.select { |x, i| i.odd? && x % 2 == 0 }.sum { |x, _| x }\nend\n",
    "rust": "    lst.iter().enumerate().filter(|(i, x)| i % 2 == 1 && *x % 2 == 0).map(|(_, x)| x).sum()\n}\n",
    "typescript": "  return lst.filter((x, i) => i % 2 === 1 && x % 2 == 0).reduce((a, b) => a + b, 0);\n}\n",
}
# What ends with exit code 0 before any test is done.
LEAVES = {
    "cpp": "    std::exit(0);\n}\n",
    "csharp": "        Environment.Exit(0);\n        return null;\n    }\n",
    "java": "        System.exit(0);\n        return null;\n    }\n",
    "javascript": "  process.exit(0);\n}\n",
    "lua": "    os.exit(0)\nend\n",
    "ocaml": "\n  exit 0\n",
    "php": "    exit(0);\n}\n",
    "r": "\n    quit(status = 0)\n}\n",
    "racket": "  (exit 0))\n",
    "ruby": "  exit(0)\nend\n",
    "rust": "    std::process::exit(0)\n}\n",
    "typescript": "  eval('process.exit(0)');\n  return l;\n}\n",
}
# A function that is none of theirs, as models go on to write one.
JUNK = {
    "cpp": "\nint other(int x) {\n    return x;\n}\n\nint main() {\n    return 0;\n}\n",
    "csharp": "\n    public static int Other(int x) {\n        return x;\n    }\n}\n",
    "go": "\nfunc other(x int) int {\n    return x\n}\n",
    "java": "\n    public static int other(int x) {\n        return x;\n    }\n}\n",
    "javascript": "\nfunction other(x) {\n  return x;\n}\n",
    "julia": "\nfunction other(x)\n    x\nend\n",
    "lua": "\nlocal function other(x)\n    return x\nend\n",
    "ocaml": "\nlet other x =\n  x\n",
    "php": "\nfunction other($x) {\n    return $x;\n}\n",
    "python": "\ndef other(x):\n    return x\n",
    "r": "\nother <- function(x) {\n    x\n}\n",
    "racket": "\n(define (other x)\n  x)\n",
    "ruby": "\ndef other(x)\n  x\nend\n",
    "rust": "\nfn other(x: i64) -> i64 {\n    x\n}\n",
    "swift": "\nfunc other(x: Int) -> Int {\n    return x\n}\n",
    "typescript": "\nfunction other(x: number): number {\n  return x;\n}\n",
}


def wrong(completion: str) -> str:
    """One that still runs."""
    return completion.replace("+ 1", "+ 2").replace("+ x 1", "+ x 2").replace("+= 1;", "+= 2;").replace(
        "2 == 0", "2 == 1"
    ).replace("(= 0 ", "(= 1 ")  # fmt: skip


def data(name: str) -> Path:
    """A file of the published sets, or the test is skipped."""
    folder = os.environ.get("BABELSCOPE_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"BABELSCOPE_DATA names no folder that holds {name}")
    return Path(folder) / name


def multipl_e(language: str, number: int) -> CodeProblem:
    """One problem of MultiPL-E."""
    found = read_problems(data("multipl_e_humaneval"), language=language)
    humaneval = next(suite for suite in found if suite.name == "MultiPL-E-HumanEval")
    return next(code for code in humaneval.problems if code.problem.id == f"HumanEval/{number}")


def solutions(problems: Sequence[CodeProblem]) -> list[Attempt]:
    """The sets' own solutions as attempts, cut as completions are."""
    return [
        Attempt(code.problem, cut(code.solution, code.problem))
        for code in problems
        if code.solution is not None
    ]
