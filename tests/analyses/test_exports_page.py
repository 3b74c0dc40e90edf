"""docs/exports.md against the registry and the writers: what it shows is what is written.

`python -m tests.analyses.test_exports_page` puts the present table and examples into the page.
"""

import re
import tempfile
from pathlib import Path

import pytest

import babelscope.analyses.export as package
from babelscope.analyses.export import formats
from tests.analyses.exporting import make_mix, write

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"
EXAMPLES = sorted(set(formats()) - {"json"})
FOLDERS = {"python": "data/python", "php": "data/php"}
PATTERN = {"python": "data/python/*.npy", "php": "data/php/*.npy"}
LINES = {"python": "data/python.jsonl", "php": "data/php.jsonl"}
PREFIXES = {"python": "data/python_text_document", "php": "data/php_text_document"}
SOURCES = {
    "gpt-neox": PREFIXES,
    "hf-datasets": LINES,
    "llama-factory": {"python": "my_python", "php": "my_php"},
    "megatron": PREFIXES,
    "mosaicml-streaming": FOLDERS,
    "nanotron": FOLDERS,
    "olmo-core": PATTERN,
    "torchtitan": LINES,
    "torchtitan-grain": LINES,
}


def table() -> str:
    rows = ["| format | file | one draw | syntax read in | checked |", "|---|---|---|---|---|"]
    for one in formats().values():
        checked = one.verified or "**unverified**"
        rows.append(f"| `{one.name}` | {', '.join(one.endings)} | {one.unit} | {one.source} | {checked} |")
    return "\n".join(rows)


def example(format: str) -> str:
    """The file for one mix, without the lines that open every file."""
    mix = make_mix(
        {"python": 0.6875, "php": 0.3125},
        {"python": 11_000_000_000, "php": 2_000_000_000},
        {"python": 11_000_000_000, "php": 5_000_000_000},
    )
    with tempfile.TemporaryDirectory() as folder:
        written = write(
            format, mix, Path(folder), sources=SOURCES[format], means={"python": 800.0, "php": 500.0}
        )
        opening, _, rest = written.path.read_text().partition("# Checked: ")
    assert opening.startswith("# Share of the training tokens: python 0.6875, php 0.3125")
    language = {".py": "python", ".sh": "bash"}.get(written.path.suffix, "yaml")
    return f"```{language}\n{rest.partition(chr(10))[2]}```"


def smallest() -> str:
    return f"```python\n{Path(package.__path__[0], 'json_document.py').read_text()}```"


def parts() -> dict[str, str]:
    return {"table": table(), "smallest": smallest()} | {name: example(name) for name in EXAMPLES}


def filled(page: str) -> str:
    """The page with the present text between each pair of marks."""
    for name, text in parts().items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page, count = marks.subn(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
        assert count == 1, f"docs/exports.md has {count} places for {name}"
    return page


@pytest.mark.parametrize("name", sorted(parts()))
def test_the_page_shows_what_is_written_now(name):
    text = PAGE.read_text()
    assert f"<!-- {name} -->\n{parts()[name]}\n<!-- /{name} -->" in text


def test_formats_without_a_check_are_called_unverified_on_the_page():
    rows = dict(re.findall(r"^\| `([\w-]+)` (.*)$", PAGE.read_text(), re.MULTILINE))
    assert set(rows) == set(formats())
    for name, one in formats().items():
        assert ("**unverified**" in rows[name]) == (one.verified is None)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
