"""Mixes to export, and the shares that stand in an exported file, read without the code that wrote them."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from babelscope.analyses.export import Exported, export, formats
from babelscope.corpora.mix import Mix

# Formats whose weights are shares of documents or samples of any length.
BY_DOCUMENT = ("hf-datasets", "llama-factory", "mosaicml-streaming")
ENDING_OF_SOURCE = {"olmo-core": ".npy", "torchtitan-grain": ".jsonl"}


def make_mix(
    weights: dict[str, float],
    unique_tokens: dict[str, int] | None = None,
    processed_tokens: dict[str, int] | None = None,
) -> Mix:
    languages = {
        name: {
            "weight": weight,
            "unique_tokens": (unique_tokens or {}).get(name),
            "processed_tokens": (processed_tokens or {}).get(name),
        }
        for name, weight in weights.items()
    }
    document = {"languages": languages, "pivot": next(iter(weights)), "verdict": "Two\nlines.", "method": "m"}
    return Mix.parse(document, origin="test")


def sources_of(format: str, mix: Mix) -> dict[str, str]:
    """A source per language, named as that stack wants it."""
    return {language: f"{language}{ENDING_OF_SOURCE.get(format, '')}" for language in mix.languages}


def write(
    format: str, mix: Mix, folder: Path, *, means: Any = 100.0, ending: str | None = None, **options: Any
) -> Exported:
    """Export with sources, and mean lengths where the format takes them."""
    path = folder / f"mix{ending or formats()[format].endings[0]}"
    if format != "json":
        options["sources"] = options.get("sources") or sources_of(format, mix)
    if format in BY_DOCUMENT:
        options["tokens_per_document"] = means
    return export(mix, format, path, **options)


def shares_of_draws(written: Exported) -> dict[str, float]:
    """Source to its share of the draws, as the stack would normalise it."""
    weights = READERS[written.format.name](written.path)
    return {source: weight / sum(weights.values()) for source, weight in weights.items()}


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _json(path: Path) -> dict[str, float]:
    return {name: one["weight"] for name, one in json.loads(path.read_text())["languages"].items()}


def _megatron(path: Path) -> dict[str, float]:
    if path.suffix == ".txt":
        words = path.read_text().split()
    elif path.suffix == ".json":
        words = json.loads(path.read_text())["train"]
    else:
        command = f'source {path}; printf "%s\\n" "${{DATA_ARGS[@]}}"'
        words = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
        words = words.split()[1:]
    return {prefix: float(weight) for weight, prefix in zip(words[::2], words[1::2], strict=True)}


def _gpt_neox(path: Path) -> dict[str, float]:
    given = _yaml(path)
    assert given["weight_by_num_documents"] is False
    return dict(zip(given["train-data-paths"], given["train-data-weights"], strict=True))


def _nanotron(path: Path) -> dict[str, float]:
    dataset = _yaml(path)["data_stages"][0]["data"]["dataset"]
    return dict(zip(dataset["dataset_folder"], dataset["dataset_weights"], strict=True))


def _olmo_core(path: Path) -> dict[str, float]:
    return {one["paths"][0]: one["target_ratio"] for one in _yaml(path)["sources"]}


def _mosaicml_streaming(path: Path) -> dict[str, float]:
    streams = _yaml(path)["train_loader"]["dataset"]["streams"]
    return {one.get("local", one.get("remote")): one["proportion"] for one in streams.values()}


def _llama_factory(path: Path) -> dict[str, float]:
    given = _yaml(path)
    probabilities = map(float, given["interleave_probs"].split(","))
    return dict(zip(given["dataset"].split(","), probabilities, strict=True))


def _calls(path: Path, name: str) -> list[dict[str, ast.expr]]:
    """Keyword arguments of each call of `name` in a Python file."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return [
        {str(one.arg): one.value for one in call.keywords}
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == name
    ]


def _torchtitan(path: Path) -> dict[str, float]:
    paths = [ast.literal_eval(one["path"]) for one in _calls(path, "DatasetConfig")]
    return dict(
        zip(paths, (ast.literal_eval(one["weight"]) for one in _calls(path, "HFDataSource")), strict=True)
    )


def _torchtitan_grain(path: Path) -> dict[str, float]:
    found = {}
    for one in _calls(path, "WeightedDataset"):
        packed = one["dataset"]
        assert isinstance(packed, ast.Call)
        found[ast.literal_eval(packed.args[0])] = ast.literal_eval(one["weight"])
    return found


def _hf_datasets(path: Path) -> dict[str, float]:
    wanted = ("TOKEN_SHARE", "TOKENS_PER_EXAMPLE", "DRAWS", "PROBABILITIES")
    tree = ast.parse(path.read_text())
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in wanted
    ]
    names: dict[str, Any] = {}
    exec(compile(tree, path, "exec"), names)  # noqa: S102 - it is the thing under test
    return names["PROBABILITIES"]


READERS = {
    "json": _json,
    "megatron": _megatron,
    "gpt-neox": _gpt_neox,
    "nanotron": _nanotron,
    "olmo-core": _olmo_core,
    "mosaicml-streaming": _mosaicml_streaming,
    "llama-factory": _llama_factory,
    "torchtitan": _torchtitan,
    "torchtitan-grain": _torchtitan_grain,
    "hf-datasets": _hf_datasets,
}
