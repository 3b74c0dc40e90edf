"""Programs to verdicts: compiled, run in a sandbox, believed only if they say a word that they cannot know.

Exit code 0 proves little: a completion may end the program before its tests. So the last statement of a
program, after its tests, prints two halves of a random word as one. The halves are drawn for every run and
written into the program as it starts; no program can know the word, and none that prints its own source
prints it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass

from babelscope.core.files import digest
from babelscope.core.languages import Toolchain, language
from babelscope.probes import toolchains
from babelscope.probes.limits import Finished, Limits
from babelscope.probes.problems import Verdict
from babelscope.probes.sandbox import Bubblewrap, Sandbox, workspace
from babelscope.probes.verdicts import VerdictCache

FIRST, SECOND = "@@FIRST@@", "@@SECOND@@"  # where a program's marker prints the two halves
SHOWN = 2000  # characters of what was printed


@dataclass(frozen=True)
class Program:
    """One file of source; its last `FIRST` and `SECOND` are those of the marker, after everything else."""

    language: str
    text: str


class Runner:
    """Runs programs, several at a time; what decides a verdict is the program alone.

    Parameters
    ----------
    sandbox
        Where they are run; default: `Bubblewrap`.
    workers
        How many at a time; default: one per core.
    verdicts
        Of programs that were run before.
    limits
        Of every run (not of compilation), instead of the toolchain's.
    """

    def __init__(
        self,
        *,
        sandbox: Sandbox | None = None,
        workers: int | None = None,
        verdicts: VerdictCache | None = None,
        limits: Limits | None = None,
    ):
        self.sandbox = sandbox or Bubblewrap()
        self.workers = workers or len(os.sched_getaffinity(0))
        self.verdicts = verdicts
        self.limits = limits

    def missing(self, language_name: str) -> str | None:
        """Why nothing here runs the language, and what would bring it; None where something does."""
        return toolchains.missing(language_name)

    def runs(self, language_name: str) -> str:
        """What runs the language here and where, or what is missing."""
        return self.missing(language_name) or f"{toolchains.version(language_name)}, {self.sandbox.name}"

    def run(
        self, programs: Sequence[Program], *, advance: Callable[[int], None] = lambda done: None
    ) -> list[Verdict]:
        """One verdict per program, in their order; equal programs are run once.

        Calls `advance` with how many more programs have their verdict.

        Raises
        ------
        InputError
            If the sandbox does not work here.
        """
        times = Counter(programs)
        found: dict[Program, Verdict] = {}
        for program in times:
            known = self._known(program)
            if known:
                found[program] = known
                advance(times[program])
        missing = [program for program in times if program not in found]
        if missing:
            self.sandbox.check()
        with ThreadPoolExecutor(self.workers) as pool:
            running = {pool.submit(self._execute, program): program for program in missing}
            try:
                for done in as_completed(running):
                    program = running[done]
                    found[program] = done.result()
                    if self.verdicts:
                        self.verdicts.put(self._key(program), found[program])
                    advance(times[program])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # if one raised, the others are not begun
        return [found[program] for program in programs]

    def _known(self, program: Program) -> Verdict | None:
        """Without running it."""
        lacking = self.missing(program.language)
        if lacking:
            return Verdict(None, "not run", lacking)
        return self.verdicts.get(self._key(program)) if self.verdicts else None

    def _key(self, program: Program) -> str:
        """Of everything that decides the verdict."""
        asked = language(program.language)
        toolchain = _toolchain(program)
        return digest(
            {
                "program": [asked.name, program.text],
                "toolchain": [toolchain.model_dump(), toolchains.version(program.language)],
                "failure": asked.tests.failure,
                "limits": asdict(self._limits(toolchain)),
                "sandbox": self.sandbox.name,
            }
        )

    def _limits(self, toolchain: Toolchain) -> Limits:
        return self.limits or Limits(cpu_seconds=toolchain.run_seconds, memory_mib=toolchain.memory_mib)

    def _execute(self, program: Program) -> Verdict:
        toolchain = _toolchain(program)
        entry = _entry(program)
        first, second = secrets.token_hex(8), secrets.token_hex(8)
        text = _replace_last(_replace_last(program.text, FIRST, first), SECOND, second)

        def run(command: Sequence[str], limits: Limits, *, keeps: bool) -> Finished:
            return self.sandbox.run(
                [part.replace("{entry}", entry) for part in command],
                folder=folder,
                limits=limits,
                environment=toolchain.environment,
                reads=toolchain.reads,
                keeps=keeps,
            )

        with workspace() as folder:
            source = folder / toolchain.source
            source.write_text(text, encoding="utf-8", errors="replace", newline="")
            source.chmod(0o644)
            if toolchain.compile:
                compiling = Limits(cpu_seconds=toolchain.compile_seconds, memory_mib=toolchain.memory_mib)
                compiled = run(toolchain.compile, compiling, keeps=True)
                if compiled.stopped or compiled.code:
                    return Verdict(False, compiled.stopped or "does not compile", _printed(compiled))
            ended = run(toolchain.run, self._limits(toolchain), keeps=False)
        reason = _reason(ended, word=first + second, failure=language(program.language).tests.failure)
        detail = _printed(ended).replace(first, FIRST).replace(second, SECOND)
        return Verdict(reason == "passed", reason, "" if reason == "passed" else detail)


def _reason(ended: Finished, *, word: str, failure: Sequence[str]) -> str:
    if ended.stopped:
        return ended.stopped
    if ended.code or any(re.search(sign, ended.stderr, re.MULTILINE) for sign in failure):
        return "failed"
    return "passed" if word in ended.stdout or word in ended.stderr else "ended early"


def _printed(ended: Finished) -> str:
    """The end of it; of compilers that is where the count of errors is, of programs the exception."""
    return (ended.stderr.strip() or ended.stdout.strip())[-SHOWN:]


def _entry(program: Program) -> str:
    """What the program's main function is in, where the language wants it named."""
    tests = language(program.language).tests
    if not tests.entry:
        return ""
    mains = list(re.finditer(tests.main, program.text, re.MULTILINE))
    before = program.text[: mains[-1].start()] if mains else program.text
    named = re.findall(tests.entry, before, re.MULTILINE)
    return named[-1] if named else ""


def _replace_last(text: str, old: str, new: str) -> str:
    """A completion may hold `old` too; it must not be told the word."""
    before, found, after = text.rpartition(old)
    return before + new + after if found else text


def _toolchain(program: Program) -> Toolchain:
    found = toolchains.toolchain(program.language)
    if found is None:
        raise LookupError(program.language)  # it was to be "not run"
    return found
