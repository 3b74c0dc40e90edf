"""Runs every identifier probe as the program that it is: `python -m tests.probe_programs [LANGUAGE...]`.

It takes a second or two per program where a language is compiled, so the test suite runs one of each concept.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from babelscope.probes import toolchains
from babelscope.probes.execution import Program, Runner
from babelscope.probes.identifiers import Probe
from babelscope.probes.probe_files import probed_languages, read_probes
from babelscope.probes.problems import Verdict

ENDED = ("passed", "ended early")  # exit code 0; there are no tests that could say a word


def program(probe: Probe) -> str:
    return probe.prompt + probe.identifier + probe.rest


def failing(language: str, probes: Sequence[Probe]) -> dict[str, Verdict]:
    """Programs that do not end as they should, and how they end."""
    verdicts = Runner().run([Program(language, program(probe)) for probe in probes])
    return {program(p): v for p, v in zip(probes, verdicts, strict=True) if v.reason not in ENDED}


def main(languages: Sequence[str]) -> None:
    for language in languages:
        probes = read_probes(probed_languages()[language])
        if why := toolchains.missing(language):
            print(f"{language}: not run: {why}", flush=True)
            continue
        found = failing(language, probes)
        print(f"{language}: {len(probes) - len(found)} of {len(probes)} run", flush=True)
        for text, verdict in found.items():
            print(f"--- {verdict.reason}\n{text}\n{verdict.detail}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(probed_languages()))
