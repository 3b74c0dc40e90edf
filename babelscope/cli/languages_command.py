"""`babelscope languages`: which languages can be run here, and what the others lack."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from babelscope.cli.output import Json, SandboxName, emit, say, show
from babelscope.core.languages import Language, known
from babelscope.probes.checks import Check, check
from babelscope.probes.execution import Runner
from babelscope.probes.sandbox import sandbox
from babelscope.probes.toolchains import missing, toolchain, version

RUN = Annotated[
    bool,
    typer.Option("--check", help="Run a right and a wrong program of each; 1 if two are not told apart."),
]


def command(run: RUN = False, sandbox_name: SandboxName = "bubblewrap", as_json: Json = False) -> int:
    """List the languages with what runs them here, or what would bring it; with --check, try them."""
    checks = check(list(known()), Runner(sandbox=sandbox(sandbox_name))) if run else {}
    rows = [_row(language, checks.get(name)) for name, language in known().items()]
    if as_json:
        emit({"sandbox": sandbox_name if run else None, "languages": rows})
    else:
        show("languages", [_shown(row, checked=run) for row in rows])
        say(*(f"{row['language']}: {row['missing']}" for row in rows if row["missing"]))
        say(*(f"! {line}" for name, one in checks.items() for line in _mistakes(name, one)))
    return 1 if any(one.told_apart is False for one in checks.values()) else 0


def _row(language: Language, checked: Check | None) -> dict[str, Any]:
    found = toolchain(language.name)
    return {
        "language": language.name,
        "toolchain": list(found.needs) if found else None,
        "version": version(language.name) or None,
        "missing": missing(language.name),
        "primer": language.tasks is not None,
        "told_apart": checked.told_apart if checked else None,
        "passes": checked.passes._asdict() if checked else None,
        "fails": checked.fails._asdict() if checked else None,
    }


def _shown(row: dict[str, Any], *, checked: bool) -> dict[str, Any]:
    told = {True: "told apart", False: "NOT told apart", None: "not run"}[row["told_apart"]]
    return {
        "language": row["language"],
        "toolchain": ", ".join(row["toolchain"] or ()),
        "version": _number(row["version"] or ""),
        "here": "missing" if row["missing"] else "ready",
        "primer": "yes" if row["primer"] else "no",
        **({"right and wrong": told} if checked else {}),
    }


def _number(version: str) -> str:
    found = re.search(r"\d+(\.\d+)+", version)
    return found[0] if found else version


def _mistakes(name: str, checked: Check) -> list[str]:
    if checked.told_apart is not False:
        return []
    return [
        f"{name}: the {kind} program: {verdict.reason} {verdict.detail}".rstrip()
        for kind, verdict in (("right", checked.passes), ("wrong", checked.fails))
    ]
