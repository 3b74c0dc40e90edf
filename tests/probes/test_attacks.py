"""Programs that try what they should not: none is believed, none leaves anything behind.

Where an attack does not fail by itself, it goes on to the marker only if it got what it wanted.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import replace

import pytest

from babelscope.probes.execution import FIRST, SECOND, Runner
from babelscope.probes.sandbox import SCRATCH, SHARED, Bubblewrap, Processes, workspace
from tests.probes.sandboxed import SMALL, marked, needs, nothing_left_behind

pytestmark = pytest.mark.sandbox

ENDS_EARLY = {
    "python": "import os\nos._exit(0)",
    "php": "<?php\nexit(0);",
    "ruby": "exit! 0",
    "lua": "os.exit(0)",
    "javascript": "process.exit(0)",
    "cpp": "#include <cstdlib>\nint main() {\nstd::exit(0);\n}",
}
CLAIMS_SUCCESS = {  # its own source, the fixed words, and a guess
    "python": f"""
print(open(__file__).read().replace("\\n", ""))
print("{FIRST}{SECOND}", "{FIRST}" + "{SECOND}", "passed", "0123456789abcdef" * 2)
raise SystemExit(0)
""",
    "php": f"""<?php
echo str_replace("\\n", "", file_get_contents(__FILE__));
echo "{FIRST}{SECOND}", "{FIRST}" . "{SECOND}", "passed", str_repeat("0123456789abcdef", 2);
exit(0);
""",
    "ruby": f"""
puts File.read(__FILE__).delete("\\n")
puts "{FIRST}{SECOND}", "{FIRST}" + "{SECOND}", "passed", "0123456789abcdef" * 2
exit 0
""",
}
KILLS = {  # its parent, everybody, and the first process; fails if the parent is still there
    "python": """
import os, signal
parent = os.getppid()
for victim in (parent, -1, 1):
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:  # there is nobody else
        pass
os.kill(parent, 0)
raise SystemExit("the parent lives")
""",
    "php": """<?php
$parent = posix_getppid();
foreach ([$parent, -1, 1] as $victim) { posix_kill($victim, 9); }
if (posix_kill($parent, 0)) { exit(1); }
""",
    "ruby": """
parent = Process.ppid
[parent, -1, 1].each { |victim| Process.kill(9, victim) rescue Errno::ESRCH }
exit 1 if Process.kill(0, parent)
""",
}
FORKS = {
    "python": """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "php": "<?php\nwhile (true) { @pcntl_fork(); }",
    "ruby": "loop do\n  begin\n    fork\n  rescue SystemCallError\n  end\nend",
}
EATS_MEMORY = {
    "python": "hoard = [bytearray(1 << 20) for _ in range(2000)]",
    "php": "<?php\n$hoard = [];\nwhile (count($hoard) < 2000) { $hoard[] = str_repeat('x', 1 << 20); }",
    "ruby": "hoard = (1..2000).map { |i| (i % 128).chr * (1 << 20) }",
}
CHILDREN_EAT_MEMORY = {  # none of them alone too much
    "python": """
import os, time
for _ in range(9):
    if os.fork() == 0:
        hoard = bytearray(b"x" * (150 << 20))
        time.sleep(60)
time.sleep(60)
""",
    "php": """<?php
for ($i = 0; $i < 9; $i++) {
    if (pcntl_fork() == 0) { $hoard = str_repeat("x", 150 << 20); sleep(60); }
}
sleep(60);
""",
    "ruby": """
9.times { fork { hoard = "x" * (150 << 20); sleep 60 } }
sleep 60
""",
}
SHARES_MEMORY = {
    "python": """
import mmap, time
hoard = mmap.mmap(-1, 1 << 30)
for place in range(0, 1 << 30, 4096):
    hoard[place] = 1
time.sleep(60)
""",
    "php": """<?php
for ($i = 0; $i < 40; $i++) {
    if (file_put_contents("/dev/shm/hoard$i", str_repeat("x", 1 << 20)) !== 1 << 20) { exit(1); }
}
""",
    "cpp": """
#include <sys/mman.h>
#include <unistd.h>
int main() {
    long size = 1L << 30;
    char *hoard = (char *) mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (long place = 0; place < size; place += 4096) hoard[place] = 1;
    sleep(60);
}
""",
}
HIDES_MEMORY = {  # in segments and files that belong to no process
    "python": """
import ctypes, os
if ctypes.CDLL(None).shmget(0, 1 << 20, 0o1666) < 0:
    os.memfd_create("hoard")
""",
    "cpp": """
#include <cstdlib>
#include <sys/mman.h>
#include <sys/shm.h>
int main() {
    if (shmget(IPC_PRIVATE, 1 << 20, 0600) < 0 && memfd_create("hoard", 0) < 0) std::exit(1);
}
""",
    "ruby": "exit 1 if syscall(RUBY_PLATFORM.start_with?('x86_64') ? 319 : 279, 'hoard', 0) < 0",
}
WRITES_ONE_BIG_FILE = {
    "python": 'with open("big", "wb") as file:\n    for _ in range(64):\n        file.write(bytes(1 << 20))',
    "php": """<?php
for ($i = 0; $i < 64; $i++) {
    if (file_put_contents("/tmp/big", str_repeat("x", 1 << 20), FILE_APPEND) !== 1 << 20) { exit(1); }
}
""",
    "ruby": "File.open('big', 'wb') { |file| 64.times { file.write('x' * (1 << 20)) } }",
}
WRITES_MANY_FILES = {
    "python": """
for n in range(10_000):
    with open(f"/tmp/{n}", "wb") as file:
        file.write(bytes(4096))
""",
    "php": """<?php
for ($i = 0; $i < 10000; $i++) {
    if (@file_put_contents("many$i", str_repeat("x", 4096)) !== 4096) { exit(1); }
}
""",
    "ruby": "10_000.times { |n| File.write(\"/tmp/#{n}\", 'x' * 4096) }",
}
SLEEPS = {"python": "import time\ntime.sleep(60)", "php": "<?php\nsleep(60);", "ruby": "sleep 60"}
LEAVES_CHILDREN = {  # in sessions of their own, and ends early
    "python": """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
os._exit(0)
""",
    "php": """<?php
for ($i = 0; $i < 3; $i++) {
    if (pcntl_fork() == 0) { posix_setsid(); if (pcntl_fork() == 0) { sleep(60); } exit(0); }
}
exit(0);
""",
    "ruby": "3.times { fork { Process.setsid; fork { sleep 60 } } }\nexit! 0",
}


def attacks(*kinds):
    return pytest.mark.parametrize(
        ("name", "text"),
        [
            pytest.param(name, text, id=f"{kind}-{name}")
            for kind, texts in kinds
            for name, text in texts.items()
        ],
    )


def verdict(name, text, limits=SMALL):
    needs(name)
    with nothing_left_behind():
        (found,) = Runner(limits=limits).run([marked(name, text)])
    return found


@attacks(("early", ENDS_EARLY), ("claims", CLAIMS_SUCCESS), ("children", LEAVES_CHILDREN))
def test_exit_code_0_without_the_word_is_not_success(name, text):
    found = verdict(name, text, replace(SMALL, cpu_seconds=30))  # of which none is needed
    assert (found.solved, found.reason) == (False, "ended early")


@attacks(
    ("kills", KILLS),
    ("memory", EATS_MEMORY),
    ("hidden", HIDES_MEMORY),
    ("big", WRITES_ONE_BIG_FILE),
    ("many", WRITES_MANY_FILES),
)
def test_what_is_held_off_fails(name, text):
    found = verdict(name, text)
    assert (found.solved, found.reason) == (False, "failed")


@attacks(("children", CHILDREN_EAT_MEMORY), ("shared", SHARES_MEMORY))
def test_memory_is_counted_over_all_processes(name, text):
    # The kernel's time to hand out half a gibibyte counts as the program's, and some kernels take seconds.
    found = verdict(name, text, replace(SMALL, cpu_seconds=30))
    assert found.solved is False
    assert found.reason == ("failed" if SHARED in text else "too much memory")


@attacks(("forks", FORKS), ("sleeps", SLEEPS))
def test_what_does_not_end_is_ended(name, text):
    started = time.monotonic()
    found = verdict(name, text)
    assert (found.solved, found.reason) == (False, "too slow")
    assert time.monotonic() - started < 2 * SMALL.wall_seconds


@pytest.mark.parametrize("name", FORKS)
def test_a_fork_bomb_does_not_fail_its_neighbours(name):
    needs(name)
    right = [marked(name, ("<?php\n" if name == "php" else "") + f"# {n}") for n in range(10)]
    with nothing_left_behind():
        bomb, *others = Runner(limits=SMALL, workers=2).run([marked(name, FORKS[name]), *right])
    assert bomb.reason == "too slow"
    assert {one.reason for one in others} == {"passed"}


READS_FILES = {
    "python": """
for path in PATHS:
    try:
        open(path).read()
        break
    except OSError:
        continue
else:
    raise SystemExit(1)
""",
    "php": "<?php\nif (!array_filter(PATHS, 'is_readable')) { exit(1); }",
    "ruby": "exit 1 unless PATHS.any? { |path| File.readable?(path) }",
}


@pytest.mark.parametrize("name", READS_FILES)
def test_files_of_the_user_are_not_there(name, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("x")
    monkeypatch.setenv("HOME", str(home))
    with workspace() as elsewhere:
        (elsewhere / "secret").write_text("x")
        (elsewhere / "secret").chmod(0o644)
        paths = [
            home / "secret",
            elsewhere / "secret",
            os.path.expanduser("~/secret"),
            __file__,
            "/etc/shadow",
        ]
        paths += [f"/proc/1/root{path}" for path in paths] + ["/root", "/home"]
        listed = "[" + ", ".join(f"'{path}'" for path in paths) + "]"
        text = READS_FILES[name].replace("PATHS", listed)
        (unheld,) = Runner(sandbox=Processes()).run([marked(name, text)])
        found = verdict(name, text)
    assert unheld.solved  # the attack itself works
    assert (found.solved, found.reason) == (False, "failed")
    assert [path.name for path in home.iterdir()] == ["secret"]


READS_VARIABLES = {
    "python": """
import os
found = os.environ.get("PLANTED") or b"PLANTED" in open("/proc/self/environ", "rb").read()
try:
    found = found or b"PLANTED" in open("/proc/1/environ", "rb").read()
except OSError:
    pass
assert found
""",
    "php": """<?php
$found = getenv("PLANTED") || strpos(file_get_contents("/proc/self/environ"), "PLANTED") !== false
    || strpos(@file_get_contents("/proc/1/environ"), "PLANTED") !== false;
if (!$found) { exit(1); }
""",
    "ruby": """
found = ENV.key?("PLANTED") || File.binread("/proc/self/environ").include?("PLANTED")
found ||= (File.binread("/proc/1/environ").include?("PLANTED") rescue false)
exit 1 unless found
""",
}


@pytest.mark.parametrize("name", READS_VARIABLES)
def test_variables_of_the_user_are_not_there(name, monkeypatch):
    monkeypatch.setenv("PLANTED", "x")
    found = verdict(name, READS_VARIABLES[name])
    assert (found.solved, found.reason) == (False, "failed")


CONNECTS = {
    "python": """
import socket
def reached(connect):
    try:
        connect()
    except OSError:
        return False
    return True
def abstract():
    socket.socket(socket.AF_UNIX).connect("\\0ABSTRACT")
tries = [
    lambda: socket.create_connection(("127.0.0.1", PORT), timeout=0.2),
    lambda: socket.create_connection(("1.1.1.1", 53), timeout=0.2),
    lambda: socket.getaddrinfo("example.com", 80),
    abstract,
]
assert any([reached(one) for one in tries])
""",
    "php": """<?php
$reached = @stream_socket_client("tcp://127.0.0.1:PORT", $code, $words, 0.2)
    || @stream_socket_client("tcp://1.1.1.1:53", $code, $words, 0.2)
    || gethostbyname("example.com") !== "example.com"
    || @stream_socket_client("unix://\\0ABSTRACT", $code, $words, 0.2);
if (!$reached) { exit(1); }
""",
    "ruby": """
require "socket"
tries = [
  -> { Socket.tcp("127.0.0.1", PORT, connect_timeout: 0.2) },
  -> { Socket.tcp("1.1.1.1", 53, connect_timeout: 0.2) },
  -> { Addrinfo.getaddrinfo("example.com", 80) },
  -> { UNIXSocket.new("\\0ABSTRACT") },
]
exit 1 unless tries.any? { |one| begin one.call; true; rescue SystemCallError, SocketError; false; end }
""",
}


@pytest.mark.parametrize("name", CONNECTS)
def test_nothing_can_be_reached_over_a_network(name):
    abstract = f"babelscope-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{abstract}")
        unix.listen()
        text = CONNECTS[name].replace("PORT", str(tcp.getsockname()[1])).replace("ABSTRACT", abstract)
        found = verdict(name, text)
        for server in (tcp, unix):
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
        (unheld,) = Runner(sandbox=Processes()).run([marked(name, text)])
    assert unheld.solved  # the attack itself works
    assert (found.solved, found.reason) == (False, "failed")


def test_no_second_namespace_can_be_made_inside():
    needs()
    for nested in (["unshare", "--user", "true"], ["bwrap", "--ro-bind", "/", "/", "true"]):
        with workspace() as folder:
            assert Bubblewrap().run(nested, folder=folder, limits=SMALL, environment={}).code != 0


def test_only_sized_folders_can_be_written_to():
    needs()
    script = "awk '$4 ~ /^rw/ && $3 == \"tmpfs\" {print $2, $4}' /proc/self/mounts"
    with workspace() as folder:
        found = Bubblewrap().run(["sh", "-c", script], folder=folder, limits=SMALL, environment={})
    writable = dict(line.split() for line in found.stdout.splitlines())
    assert set(writable) == {SCRATCH, SHARED}
    assert all(f"size={16 << 10}k" in options for options in writable.values())


def test_a_program_of_a_killed_process_dies_with_it():
    needs("python")
    with nothing_left_behind() as temporary:
        child = os.fork()
        if child == 0:
            threading.Timer(0.5, os.kill, (os.getpid(), 9)).start()
            Runner(workers=1).run([marked("python", "import time\ntime.sleep(60)")])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == 9
        for left in temporary.glob("babelscope-*/*"):  # the folder is all that is left
            left.unlink()
            left.parent.rmdir()
