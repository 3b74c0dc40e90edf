"""`babelscope languages` as a user meets it."""

from __future__ import annotations

import json

import pytest

from babelscope.cli import main
from babelscope.core.languages import known
from babelscope.probes import toolchains
from babelscope.probes.execution import Runner
from babelscope.probes.problems import Verdict
from tests.probes.sandboxed import needs


@pytest.fixture
def none_installed(monkeypatch):
    monkeypatch.setattr(toolchains, "_found", lambda executable: False)
    for one in (toolchains.toolchain, toolchains.version):
        one.cache_clear()
    yield
    monkeypatch.undo()
    for one in (toolchains.toolchain, toolchains.version):
        one.cache_clear()


def listed(capsys, *options, code=0):
    assert main(["languages", "--json", *options]) == code
    return {row["language"]: row for row in json.loads(capsys.readouterr().out)["languages"]}


def test_every_language_is_listed_with_what_runs_it_or_would(capsys):
    rows = listed(capsys)
    assert set(rows) == set(known())
    for name, row in rows.items():
        assert bool(row["toolchain"]) != bool(row["missing"])
        assert row["primer"] == (known()[name].tasks is not None)
        assert bool(row["version"]) == bool(row["toolchain"])


def test_what_is_missing_is_not_a_failure(none_installed, capsys):
    rows = listed(capsys, "--check")
    assert all(row["told_apart"] is None for row in rows.values())
    assert "Debian: php-cli" in rows["php"]["missing"]
    assert "not in Debian" in rows["julia"]["missing"]
    assert main(["languages"]) == 0
    assert "swift.org" in capsys.readouterr().out


def test_a_language_whose_wrong_program_passes_is_told_with_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(
        Runner, "run", lambda self, programs, **_: [Verdict(True, "passed") for _ in programs]
    )
    rows = listed(capsys, "--check", code=1)
    assert all(row["told_apart"] is False for row in rows.values())
    assert main(["languages", "--check"]) == 1
    assert "! php: the wrong program: passed" in capsys.readouterr().out


def test_an_unknown_sandbox_is_refused(capsys):
    assert main(["languages", "--check", "--sandbox", "docker"]) == 2
    assert "'docker'; known are bubblewrap, processes" in capsys.readouterr().err


@pytest.mark.sandbox
def test_every_language_that_is_here_is_told_apart(capsys):
    needs()
    rows = listed(capsys, "--check")
    assert {row["told_apart"] for row in rows.values() if not row["missing"]} == {True}
    assert {row["told_apart"] for row in rows.values() if row["missing"]} <= {None}
