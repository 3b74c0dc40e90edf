"""Programs to verdicts: who is believed, and that nothing but the program decides."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from babelscope.core.errors import InputError
from babelscope.core.languages import known
from babelscope.probes import toolchains
from babelscope.probes.execution import FIRST, SECOND, Program, Runner
from babelscope.probes.limits import Finished, Limits
from babelscope.probes.problems import Verdict
from babelscope.probes.sandbox import Processes
from babelscope.probes.verdicts import VerdictCache
from tests.probes.sandboxed import SMALL, marked, needs, nothing_left_behind

sandboxed = pytest.mark.sandbox

RIGHT = {
    "prints 1 MB": {
        "python": "print('x' * 1_000_000)",
        "php": "<?php echo str_repeat('x', 1000000);",
        "ruby": "puts 'x' * 1_000_000",
    },
    "forks a child that outlives it": {
        "python": "import os, time\nif os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)",
        "php": "<?php if (pcntl_fork() == 0) { sleep(60); exit(0); }",
        "ruby": "fork { sleep 60 }",
    },
    "reads standard input": {
        "python": "import sys\nassert sys.stdin.read() == ''",
        "php": "<?php if (stream_get_contents(STDIN) !== '') { exit(1); }",
        "ruby": "raise unless $stdin.read.empty?",
    },
    "writes here and in the temporary folder": {
        "python": """
import os, tempfile
for path in ("here", os.path.join(tempfile.gettempdir(), "there")):
    with open(path, "w") as file:
        file.write("x")
    assert open(path).read() == "x"
""",
        "php": """<?php
foreach (["here", sys_get_temp_dir() . "/there"] as $path) {
    file_put_contents($path, "x");
    if (file_get_contents($path) !== "x") { exit(1); }
}
""",
        "ruby": """
require "tmpdir"
["here", Dir.tmpdir + "/there"].each { |path| File.write(path, "x"); raise unless File.read(path) == "x" }
""",
    },
}


class Recorded:
    """A sandbox that runs nothing, ends as it is told, and knows what it was asked."""

    name = "recorded"

    def __init__(self, code=0, stdout="{word}", stderr="", stopped=""):
        self.ends = code, stdout, stderr, stopped
        self.commands = []
        self.texts = []

    def check(self):
        pass

    def run(self, command, *, folder, limits, environment, reads=(), keeps=False):
        self.commands.append(list(command))
        (source,) = folder.iterdir()
        self.texts.append(source.read_text())
        code, stdout, stderr, stopped = self.ends
        halves = self.texts[-1].split("|")
        word = halves[-2] + halves[-1] if len(halves) > 2 else ""
        return Finished(code, stdout.replace("{word}", word), stderr, stopped, 0.1)


def program(text="", name="python"):
    return Program(name, f"{text}|{FIRST}|{SECOND}")


@pytest.fixture
def everything_installed(monkeypatch):
    monkeypatch.setattr(toolchains, "_found", lambda executable: True)
    toolchains.toolchain.cache_clear()
    monkeypatch.setattr(toolchains, "version", lambda name: "1.0")
    yield
    monkeypatch.undo()
    toolchains.toolchain.cache_clear()


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ({}, "passed"),
        ({"stdout": "", "stderr": "x{word}"}, "ended early"),
        ({"stdout": "FIRSTSECOND"}, "ended early"),
        ({"code": 1}, "failed"),
        ({"stopped": "too slow"}, "too slow"),
        ({"stopped": "too much memory"}, "too much memory"),
    ],
)
def test_success_is_exit_code_0_and_the_word(everything_installed, ends, reason):
    (found,) = Runner(sandbox=Recorded(**ends)).run([program()])
    assert found[:2] == (reason == "passed", reason)


def test_signs_of_failure_count_only_where_the_language_has_them(everything_installed):
    sandbox = Recorded(stderr="1 + 1\nFAILURE\n")
    racket, python = Runner(sandbox=sandbox).run([program(name="racket"), program()])
    assert racket.reason == "failed"
    assert python.reason == "passed"


def test_only_the_last_place_is_told_the_word(everything_installed):
    sandbox = Recorded()
    Runner(sandbox=sandbox).run([program(f"{FIRST}{SECOND}")])
    (text,) = sandbox.texts
    assert text.startswith(f"{FIRST}{SECOND}|")
    assert text.count(FIRST) == text.count(SECOND) == 1


def test_the_word_is_another_in_every_run(everything_installed):
    sandbox = Recorded()
    runner = Runner(sandbox=sandbox)
    for _ in range(3):
        runner.run([program()])
    assert len(set(sandbox.texts)) == 3


def test_the_entry_is_the_last_class_before_the_last_main(everything_installed):
    sandbox = Recorded()
    text = "class A { void main() }\nclass B { }\nclass C { static void main(String[] a) { } }\nclass D { }"
    Runner(sandbox=sandbox).run([program(text, name="java")])
    assert sandbox.commands[-1][-1] == "C"


def test_equal_programs_are_run_once_and_every_verdict_is_told(everything_installed):
    sandbox, told = Recorded(), []
    programs = [program("a"), program("b"), program("a"), program("a")]
    found = Runner(sandbox=sandbox, workers=1).run(programs, advance=told.append)
    assert len(sandbox.texts) == 2
    assert len(found) == sum(told) == 4


def test_a_language_that_nothing_runs_is_not_run_and_says_what_would(monkeypatch):
    monkeypatch.setattr(toolchains, "_found", lambda executable: False)
    toolchains.toolchain.cache_clear()
    sandbox = Recorded()
    (found,) = Runner(sandbox=sandbox).run([program(name="lua")])
    monkeypatch.undo()
    toolchains.toolchain.cache_clear()
    assert found[:2] == (None, "not run")
    assert "lua5.4" in found.detail
    assert "Debian: lua5.4" in found.detail
    assert sandbox.commands == []


def test_what_is_elsewhere_on_the_path_is_named(tmp_path, monkeypatch):
    toolchain = tmp_path / "julia"
    toolchain.write_text("#!/bin/sh\n")
    toolchain.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchains, "PATH", "/nowhere")
    monkeypatch.setattr(
        toolchains, "toolchain", toolchains.toolchain.__wrapped__
    )  # not what was found before
    assert f"julia is at {toolchain}, which the sandbox does not see" in (toolchains.missing("julia") or "")


def test_a_broken_sandbox_is_an_error_and_no_verdict(everything_installed):
    class Broken(Recorded):
        def run(self, command, **options):
            raise InputError("the sandbox does not work")

    with pytest.raises(InputError, match="does not work"):
        Runner(sandbox=Broken()).run([program(str(n)) for n in range(10)])


# What is kept


def test_a_verdict_is_kept_in_a_file_and_found_by_another_runner(everything_installed, tmp_path):
    first, second = Recorded(code=3, stderr="why"), Recorded()
    found = Runner(sandbox=first, verdicts=VerdictCache(tmp_path / "verdicts")).run([program()])
    again = Runner(sandbox=second, verdicts=VerdictCache(tmp_path / "verdicts")).run([program()])
    assert found == again == [Verdict(False, "failed", "why")]
    assert second.commands == []


@pytest.mark.parametrize("change", ["text", "language", "version", "limits", "sandbox"])
def test_whatever_decides_a_verdict_is_part_of_its_key(everything_installed, tmp_path, monkeypatch, change):
    cache = VerdictCache(tmp_path / "verdicts")
    Runner(sandbox=Recorded(), verdicts=cache).run([program()])
    other = Recorded()
    if change == "version":
        monkeypatch.setattr(toolchains, "version", lambda name: "2.0")
    if change == "sandbox":
        other.name = "other"
    asked = program("x" if change == "text" else "", name="ruby" if change == "language" else "python")
    Runner(sandbox=other, verdicts=cache, limits=SMALL if change == "limits" else None).run([asked])
    assert len(other.commands) == 1


def test_what_was_not_run_is_not_kept(tmp_path):
    cache = VerdictCache(tmp_path / "verdicts")
    cache.put("key", Verdict(None, "not run", "nothing runs it"))
    assert cache.get("key") is None


def test_several_may_write_to_one_file(tmp_path):
    def write(writer):
        cache = VerdictCache(tmp_path / "verdicts")
        for n in range(25):
            cache.put(f"{writer}-{n}", Verdict(True, "passed"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    cache = VerdictCache(tmp_path / "verdicts")
    assert all(cache.get(f"{writer}-{n}") for writer in range(4) for n in range(25))


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "verdicts").write_text("no verdicts, and long enough to be read as a data base" * 10)
    with pytest.raises(InputError, match="holds no verdicts"):
        VerdictCache(tmp_path / "verdicts")


# In the sandbox


@sandboxed
@pytest.mark.parametrize("name", list(known()))
def test_every_language_tells_right_from_wrong(name):
    needs(name)
    check = known()[name].check
    right, wrong = Runner().run([marked(name, check.passes), marked(name, check.fails)])
    assert right == Verdict(True, "passed")
    assert (wrong.solved, wrong.reason) == (False, "failed")


@sandboxed
@pytest.mark.parametrize("what", RIGHT)
@pytest.mark.parametrize("name", ["python", "php", "ruby"])
def test_what_is_harmless_passes(what, name):
    needs(name)
    with nothing_left_behind():
        (found,) = Runner(limits=SMALL).run([marked(name, RIGHT[what][name])])
    assert found == Verdict(True, "passed")


@sandboxed
def test_compiling_may_take_longer_than_running():
    needs("cpp")
    slow = """
constexpr long spend(long n) { long sum = 0; for (long i = 0; i < n; i++) sum += i % 7; return sum; }
template <int N> struct Spent { static constexpr long value = spend(200000 + N) + Spent<N - 1>::value; };
template <> struct Spent<0> { static constexpr long value = 0; };
int main() {
    static_assert(Spent<LENGTH>::value > 0);
}
"""
    brief = Limits(cpu_seconds=0.5)
    started = time.monotonic()
    with nothing_left_behind():
        (found,) = Runner(limits=brief).run([marked("cpp", slow.replace("LENGTH", "16"))])
    assert found == Verdict(True, "passed")
    assert time.monotonic() - started > brief.wall_seconds


@sandboxed
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpp", "int main() { return x; }"),
        ("java", "class Main { void main() { } } }"),
        ("rust", "fn main() { x }"),
    ],
)
def test_what_does_not_compile_says_why(name, text):
    needs(name)
    (found,) = Runner().run([marked(name, text)])
    assert (found.solved, found.reason) == (False, "does not compile")
    assert "error" in found.detail


@sandboxed
def test_verdicts_depend_neither_on_workers_nor_on_order():
    needs("python", "lua")
    programs = [
        *(marked("python", f"assert {n} % 3") for n in range(6)),
        *(marked("lua", f"assert({n} % 2 == 0)") for n in range(6)),
        marked("python", "raise SystemExit(0)"),
        marked("python", "print(FIRST"),
    ]
    one = Runner(workers=1).run(programs)
    backwards = list(range(len(programs)))[::-1]
    two = Runner(workers=2).run([programs[place] for place in backwards])
    assert [one[place] for place in backwards] == two
    assert len({verdict.reason for verdict in one}) == 3


@sandboxed
def test_a_loaded_machine_does_not_fail_a_right_program():
    needs("python")
    load = []
    try:
        for _ in range(4 * len(os.sched_getaffinity(0))):
            load.append(os.fork())
            if load[-1] == 0:
                while True:
                    pass
        text = "import time\nwhile time.process_time() < 0.6:\n    pass"
        found = Runner(limits=SMALL).run([marked("python", f"{text}\n# {n}") for n in range(2)])
    finally:
        for busy in load:
            os.kill(busy, 9)
            os.waitpid(busy, 0)
    assert found == [Verdict(True, "passed")] * 2


@sandboxed
def test_the_weaker_sandbox_gives_the_same_verdicts():
    needs("python", "cpp")
    programs = [
        marked("python", "assert True"),
        marked("python", "assert False"),
        marked("python", "raise SystemExit(0)"),
        marked("cpp", "int main() { }"),
    ]
    weaker = Runner(sandbox=Processes()).run(programs)
    assert [one[:2] for one in weaker] == [one[:2] for one in Runner().run(programs)]


@sandboxed
@pytest.mark.slow
def test_of_1000_right_programs_none_fails():
    needs("lua")
    with nothing_left_behind():
        found = Runner().run([marked("lua", f"assert({n} + 1 == {n + 1})") for n in range(1000)])
    assert found == [Verdict(True, "passed")] * 1000
