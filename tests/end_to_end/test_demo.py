"""The whole loop, with too little training to show anything: every part runs and says so."""

from __future__ import annotations

import json

import pytest

from babelscope.cli import main


@pytest.mark.slow
def test_the_demo_runs_from_nothing_to_a_report_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    from babelscope.analyses import demo

    monkeypatch.setattr(demo, "BASE_STEPS", 101)
    monkeypatch.setattr(demo, "STEPS", 150)
    monkeypatch.setattr(demo, "DOCUMENTS", {"pivot": 500, "target": 1000})
    assert main(["demo", "--out", str(tmp_path / "d"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["stages"]) == {"score", "pivot knowledge", "identifier choice"}
    # With so little training either P is undefined or nothing rises and falls: no mix, and words why.
    assert document["recommendation"] is None or document["recommendation"]["mix"] is None
    assert any("No mix" in note for note in document["notes"]) or "No mix is" in document["verdict"]
    assert any("hardly knows" in note for note in document["notes"])
    assert (tmp_path / "d" / "report.html").stat().st_size > 1_000_000
    for name in ("base", "continuation", "arms"):
        assert (tmp_path / "d" / f"{name}.toml").exists()

    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*.safetensors")}
    assert main(["demo", "--out", str(tmp_path / "d"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*.safetensors")} == files
