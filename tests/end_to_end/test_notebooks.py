"""Every notebook, run from its first cell to its last on a small series that is trained for it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
named = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


RECIPE = """
output = "php"
pivot = "python"
target = "php"
questions = "questions.toml"

[model.scratch]
family = "gpt2"
n_layer = 2
n_embd = 32
n_head = 2
n_positions = 64

[tokenizer]
path = "."

[[sources]]
language = "python"
path = "python.jsonl"
proportion = 0.5

[[sources]]
language = "php"
path = "php.jsonl"
proportion = 0.5

[training]
steps = 30
batch_size = 4
sequence_length = 64
learning_rate = 1e-3
warmup_steps = 5
checkpoints = 4
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small Babel's series after far too little training: nothing need be found, but all must run."""
    from babelscope.checkpoints.pretrain import pretrain
    from babelscope.checkpoints.recipe import Recipe
    from babelscope.corpora.babel import BabelWorld

    folder = tmp_path_factory.mktemp("babel")
    world = BabelWorld(0, targets=("php",))
    world.write_tokenizer(folder)
    for language in ("python", "php"):
        world.write_text(folder / f"{language}.jsonl", language, 300)
    (folder / "questions.toml").write_text('tokens = 2000\nbabel = { targets = ["php"] }\n')
    (folder / "recipe.toml").write_text(RECIPE)
    return pretrain(Recipe.from_toml(folder / "recipe.toml"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@named
def test_a_notebook_is_valid_and_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.slow
@named
def test_a_notebook_runs_to_its_end(path, run, monkeypatch):
    monkeypatch.setenv("BABELSCOPE_RUN", str(run))
    notebook = nbformat.read(path, as_version=4)
    # Where a reader's Jupyter runs it: in its own directory.
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.output_type == "error"]
    assert any("text/html" in output.get("data", {}) for output in shown)
