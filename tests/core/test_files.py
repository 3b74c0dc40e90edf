"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
import socket
import subprocess

import pytest

from babelscope.core.errors import InputError
from babelscope.core.files import digest, read_json, read_toml, whole_file, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail_half_way():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = socket.gethostname()
    left, living = (tmp_path / f".a.json.{host}-{process}.part" for process in (dead.pid, os.getppid()))
    left.write_text("half")
    living.write_text("half")
    write_json(tmp_path / "a.json", 1)
    assert not left.exists()
    assert living.exists()


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(("read", "kind"), [(read_json, "JSON"), (read_toml, "TOML")])
def test_unreadable_documents_are_named(tmp_path, read, kind):
    with pytest.raises(InputError, match="x does not exist"):
        read(tmp_path / "x")
    (tmp_path / "x").write_text("{=")
    with pytest.raises(InputError, match=f"x is not {kind}"):
        read(tmp_path / "x")


@pytest.mark.parametrize("read", [read_json, read_toml])
def test_a_folder_is_no_document(tmp_path, read):
    with pytest.raises(InputError, match=f"{tmp_path.name} cannot be read: Is a directory; give a file"):
        read(tmp_path)


@pytest.mark.parametrize("place", ["folder", "file/a.json", "file/deeper/a.json"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"{place} cannot be written: .*; give another place"):
        write_json(tmp_path / place, 1)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize(("number", "where"), [(errno.ENOSPC, "mine"), (errno.EACCES, "another")])
def test_a_full_disk_and_a_failure_over_another_file_are_not_the_places_fault(tmp_path, number, where):
    def fail():
        with whole_file(tmp_path / "a.json") as temporary:
            raise OSError(number, "failed", str(temporary if where == "mine" else "another"))

    with pytest.raises(OSError, match="failed") as failed:
        fail()
    assert failed.value.errno == number


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
