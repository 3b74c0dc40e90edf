"""Sources: which documents come out, in which order, and on which side of the split."""

import gzip
import json

import pytest

from babelscope.core.errors import InputError
from babelscope.corpora import sources
from babelscope.corpora.sources import Source


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def numbered(count, *, start=0):
    return {f"{number:04}.py": f"x = {number}\n" for number in range(start, start + count)}


def names(documents):
    return [document.name for document in documents]


def texts(documents):
    return {document.text for document in documents}


def test_a_directory_is_read_in_one_order_and_by_ending(tmp_path):
    write(
        tmp_path, {"b/2.py": "2", "a.py": "1", "b/1.py": "3", "b.txt": "no", "c.php": "no", "b/c/d.py": "4"}
    )
    source = Source([tmp_path], extensions=[".py"], heldout=1e-9)
    read = [*source.training()]
    assert sorted(names(read) + names(source.heldout_)) == ["a.py", "b/1.py", "b/2.py", "b/c/d.py"]
    assert names(read) == names(Source([tmp_path], extensions=[".py"], heldout=1e-9).training())


def test_every_document_is_either_trained_on_or_held_out(tmp_path):
    source = Source([write(tmp_path, numbered(400))], extensions=[".py"], heldout=0.1)
    trained, held_out = texts(source.training()), texts(source.heldout_)
    assert not trained & held_out
    assert len(trained | held_out) == 400
    assert 20 < len(held_out) < 65  # 40 expected, standard deviation 6


def test_what_one_run_holds_out_no_larger_source_trains_on(tmp_path):
    few = Source([write(tmp_path / "few", numbered(200))], extensions=[".py"], heldout=0.1)
    many = Source([write(tmp_path / "many", numbered(500, start=-100))], extensions=[".py"], heldout=0.1)
    assert [*few.training()]
    assert not texts(many.training()) & texts(few.heldout_)


def test_one_document_at_least_is_held_out(tmp_path):
    source = Source([write(tmp_path, numbered(5))], extensions=[".py"], heldout=1e-9)
    assert len([*source.training()]) == 4
    assert len(source.heldout_) == 1


def test_duplicates_are_read_once_wherever_they_are(tmp_path):
    files = numbered(300)
    write(tmp_path / "a", files)
    write(tmp_path / "b", {f"again-{name}": text for name, text in files.items()})
    source = Source([tmp_path / "a", tmp_path / "b"], extensions=[".py"], heldout=0.1)
    trained = [document.text for document in source.training()]
    assert len(trained) == len(set(trained))
    assert not set(trained) & texts(source.heldout_)
    assert source.counts_["duplicate"] == 300


def test_held_out_text_beyond_the_limit_is_dropped_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HELDOUT_BYTES", 60)
    everything = Source([write(tmp_path, numbered(400))], extensions=[".py"], heldout=0.1)
    trained = texts(everything.training())
    assert sum(len(document.text) for document in everything.heldout_) <= 60
    monkeypatch.undo()
    unlimited = Source([tmp_path], extensions=[".py"], heldout=0.1)
    assert texts(unlimited.training()) == trained
    assert everything.counts_["dropped"] == len(unlimited.heldout_) - len(everything.heldout_) > 0


def test_what_is_no_source_code_is_skipped_and_counted(tmp_path):
    write(
        tmp_path,
        {
            **numbered(3),
            "binary.py": b"x = 1\0",
            "latin.py": "x = 'é'\n".encode("latin-1"),
            "empty.py": "\n",
            "minified.py": "x = [" + "1, " * 500 + "]\n",
            "huge.py": "x = 1\n" * 200_000,
        },
    )
    (tmp_path / "broken.py").symlink_to(tmp_path / "nowhere.py")
    source = Source([tmp_path], extensions=[".py"])
    assert len([*source.training()]) + len(source.heldout_) == 3
    assert {fate: source.counts_[fate] for fate in ("binary", "not UTF-8", "empty", "minified", "huge")} == {
        "binary": 1,
        "not UTF-8": 1,
        "empty": 1,
        "minified": 1,
        "huge": 1,
    }


def test_the_three_kinds_of_files_hold_the_same_documents(tmp_path):
    wanted = [f"line {number}\nand more\n" for number in range(30)]
    lines = "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in wanted)
    write(
        tmp_path,
        {"a.jsonl": lines, "a.jsonl.gz": gzip.compress(lines.encode()), "a.txt": "\n\n".join(wanted)},
    )
    for name in ("a.jsonl", "a.jsonl.gz", "a.txt"):
        source = Source([tmp_path / name], extensions=[])
        assert texts(source.training()) | texts(source.heldout_) == set(wanted)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", '{"text": "a"}\n{"text": \n', r"bad\.jsonl, line 2 is not JSON"),
        ("bad.jsonl", '{"code": "a"}\n', r"line 1 has no \"text\" string \(found: \['code'\]\)"),
        ("bad.jsonl", '"text"\n', r"line 1 has no \"text\" string \(found: str\)"),
        ("bad.jsonl.gz", "not gzip", r"bad\.jsonl\.gz cannot be read"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, name, content, message):
    write(tmp_path, {name: content})
    with pytest.raises(InputError, match=message):
        list(Source([tmp_path / name], extensions=[]).training())


def test_a_missing_path_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match=r"'.*nowhere' does not exist"):
        Source([tmp_path / "nowhere"], extensions=[".py"])


def test_a_file_of_an_unknown_kind_is_refused(tmp_path):
    write(tmp_path, {"a.parquet": "x"})
    with pytest.raises(InputError, match=r"a\.parquet' is not a directory, \.jsonl"):
        Source([tmp_path / "a.parquet"], extensions=[".py"])


def test_an_empty_source_quotes_path_endings_and_what_was_found(tmp_path):
    write(tmp_path, {"a.py": "x", "b.py": b"\0"})
    with pytest.raises(InputError, match=rf"{tmp_path.name} .*\['\.py'\].*1 binary, 1 held out"):
        list(Source([tmp_path], extensions=[".py"]).training())


def test_the_fingerprint_changes_with_any_file_and_only_then(tmp_path):
    write(tmp_path, numbered(3))
    source = Source([tmp_path], extensions=[".py"])
    before = source.fingerprint()
    assert Source([tmp_path], extensions=[".py"]).fingerprint() == before
    write(tmp_path, {"note.txt": "of no concern"})
    assert source.fingerprint() == before
    write(tmp_path, {"0001.py": "x = 10\n"})
    assert source.fingerprint() != before
