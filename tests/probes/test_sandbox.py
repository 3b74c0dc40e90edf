"""The sandbox: what it lets through, what it takes with it, and that it never fails in silence."""

from __future__ import annotations

import multiprocessing
import os
import threading
from functools import partial

import pytest

from babelscope.core.errors import InputError
from babelscope.probes import limits, sandbox
from babelscope.probes.limits import Limits
from babelscope.probes.sandbox import Bubblewrap, Processes, workspace
from tests.probes.sandboxed import SMALL, needs, nothing_left_behind

pytestmark = pytest.mark.sandbox

SOMEBODY = 12345  # a user without rights


@pytest.fixture(params=["bubblewrap", "processes"])
def shell(request):
    """Run a script in each of the sandboxes."""
    if request.param == "bubblewrap":
        needs()

    def run(script, *, given=SMALL, **options):
        with nothing_left_behind(), workspace() as folder:
            command = ["sh", "-c", script]
            return sandbox.sandbox(request.param).run(
                command, folder=folder, limits=given, environment={}, **options
            )

    return run


def as_somebody(work):
    """What `work` returns in a process of an ordinary user."""
    context = multiprocessing.get_context("fork")
    with context.Pool(1, initializer=_become_somebody) as pool:
        return pool.apply(work)


def _become_somebody():
    os.setgroups([])
    os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
    os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)


def _run(script, *, threads=0):
    done = threading.Event()
    waiting = [threading.Thread(target=done.wait) for _ in range(threads)]
    for thread in waiting:
        thread.start()
    try:
        with workspace() as folder:
            found = Bubblewrap().run(["sh", "-c", script], folder=folder, limits=SMALL, environment={})
    finally:
        done.set()
    return found.code, found.stdout, found.stopped


def test_output_and_exit_code_are_those_of_the_command(shell):
    found = shell("echo out; echo err >&2; exit 7")
    assert (found.code, found.stdout, found.stderr, found.stopped) == (7, "out\n", "err\n", "")


def test_a_signal_is_told_as_128_and_its_number(shell):
    assert shell("kill -SEGV $$").code == 128 + 11


def test_standard_input_is_empty(shell):
    assert shell("cat; echo done").stdout == "done\n"


def test_output_through_device_files_keeps_its_order(shell):
    assert shell("echo a > /dev/stdout; echo b; echo c >> /dev/stdout; echo d").stdout == "a\nb\nc\nd\n"


def test_the_environment_is_the_same_for_everybody(shell, monkeypatch):
    monkeypatch.setenv("PLANTED", "x")
    names = {line.partition("=")[0] for line in shell("env").stdout.splitlines()}
    assert names - {"TMPDIR"} == {"PATH", "HOME", "LANG", "PWD"}


def test_what_is_started_and_left_does_not_outlive_the_command(shell):
    found = shell("sleep 60 & echo done")
    assert (found.code, found.stdout) == (0, "done\n")
    assert found.seconds < 1


def test_output_has_a_largest_size(shell):
    found = shell("head -c 20000000 /dev/zero")
    assert found.code != 0
    assert len(found.stdout) == SMALL.file_mib << 20


def test_what_a_run_writes_is_gone_and_what_a_compilation_writes_is_kept():
    needs()
    with workspace() as folder:
        (folder / "source").write_text("source")
        (folder / "source").chmod(0o644)
        run = partial(Bubblewrap().run, folder=folder, limits=SMALL, environment={})
        assert run(["sh", "-c", "cat source > output"], keeps=True).code == 0
        assert run(["sh", "-c", "cat output > copy && cat copy"]).stdout == "source"
        assert run(["sh", "-c", "echo changed > output"]).code != 0
        assert sorted(path.name for path in folder.iterdir()) == ["output", "source"]


def test_a_link_in_the_folder_is_not_followed_outside():
    needs()
    with workspace() as folder:
        (folder / "link").symlink_to("/etc/hostname")
        found = Bubblewrap().run(["cat", "link"], folder=folder, limits=SMALL, environment={})
    assert found.code != 0


def test_no_file_descriptor_is_left_open_for_the_command():
    needs()
    with open(os.devnull) as other, workspace() as folder:
        os.set_inheritable(other.fileno(), True)
        found = Bubblewrap().run(["ls", "/proc/self/fd"], folder=folder, limits=SMALL, environment={})
    assert found.stdout.split() == ["0", "1", "2", "3"]  # 3: what ls itself reads


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_gets_the_same_as_root():
    needs()
    forks = "for n in $(seq 100); do sleep 1 & done; wait"
    for script in ("echo right; exit 3", "id -u; hostname > /dev/null; ls -A ~", "cat /etc/passwd", forks):
        assert as_somebody(partial(_run, script)) == _run(script)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_other_processes_of_the_user_do_not_count():
    needs()
    alone = _run("sleep 0.1 & wait; echo right")
    assert alone == (0, "right\n", "")
    assert as_somebody(partial(_run, "sleep 0.1 & wait; echo right", threads=2 * SMALL.processes)) == alone


def test_too_many_processes_are_refused_inside():
    needs()
    code, _, _ = _run("for n in $(seq 100); do sleep 0.2 & done; wait")
    assert code != 0


@pytest.fixture
def forgetful():
    """What was found out about this machine is found out anew, before and after."""
    kept = (limits.tool, sandbox._walls, sandbox._try_bubblewrap)
    for one in kept:
        one.cache_clear()
    yield
    for one in kept:
        one.cache_clear()


def test_a_missing_tool_is_an_error_that_says_what_to_install(forgetful, monkeypatch):
    monkeypatch.setattr(limits, "PATH", "/nonexistent")
    with pytest.raises(InputError, match=r"apt-get install (bubblewrap|util-linux)"):
        Bubblewrap().check()
    with pytest.raises(InputError, match="apt-get install util-linux"):
        Processes().check()


@pytest.fixture
def broken(forgetful, monkeypatch):
    """A bubblewrap that may not make namespaces."""
    needs()
    with workspace() as folder:
        fake = folder / "bwrap"
        fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
        fake.chmod(0o755)
        walls = sandbox._walls(disk_mib=Limits().disk_mib)
        monkeypatch.setattr(sandbox, "_walls", lambda **_: (str(fake), *walls[1:]))
        sandbox._try_bubblewrap.cache_clear()
        yield
        monkeypatch.undo()


def test_a_broken_sandbox_is_an_error_in_its_own_words(broken):
    with pytest.raises(InputError, match=r"No permissions to create new namespace.*sysctl.*'processes'"):
        Bubblewrap().check()
    with workspace() as folder, pytest.raises(InputError, match=r"does not work.*No permissions"):
        Bubblewrap().run(["true"], folder=folder, limits=SMALL, environment={})


def test_a_program_cannot_pretend_that_the_sandbox_is_broken():
    needs()
    assert _run("echo 'bwrap: No permissions to create new namespace' >&2; exit 1")[0] == 1


def test_an_unknown_sandbox_is_refused_with_the_known():
    with pytest.raises(InputError, match=r"'docker'; known are bubblewrap, processes"):
        sandbox.sandbox("docker")
