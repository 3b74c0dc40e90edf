"""Random tiny models of all seven families, and a byte-level tokenizer: no download, no file needed."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: xdist workers share few cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

VOCABULARY = 300
FAMILY_CONFIGS: dict[str, dict[str, Any]] = {
    # 256 positions: enough for the identifier probes that come with the project.
    "gpt2": {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 256},
    "gpt_neox": {
        "num_hidden_layers": 3,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
    "llama": {
        "num_hidden_layers": 3,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    },
    "qwen2": {
        "num_hidden_layers": 3,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    },
    "codegen": {"n_layer": 3, "n_embd": 32, "n_head": 4, "rotary_dim": 4, "n_positions": 64, "n_ctx": 64},
    "gpt_bigcode": {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 64},
    "starcoder2": {
        "num_hidden_layers": 3,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
}


def make_model(family: str, *, seed: int = 0, **changes: Any) -> Any:
    """A random model, scaled up so that its layers differ and its MLPs are not near-linear."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        **FAMILY_CONFIGS.get(family, {}) | changes,
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
            else:  # norms and biases too: a lens without them must fail
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@dataclass(frozen=True)
class Tiny:
    """One family's model with its anatomy and a few sequences of unequal length."""

    family: str
    model: Any
    anatomy: Any
    items: Sequence[Any]


@pytest.fixture(params=list(FAMILY_CONFIGS))
def tiny(request: pytest.FixtureRequest) -> Tiny:
    from babelscope.interp.anatomy import Anatomy
    from babelscope.interp.measure import Item

    model = make_model(request.param)
    rng = np.random.default_rng(0)
    items = [Item(rng.integers(0, VOCABULARY, n), i) for i, n in enumerate((7, 12, 3, 12, 9))]
    return Tiny(request.param, model, Anatomy(model), items)


@cache
def byte_tokenizer() -> Any:
    """Every byte a token, plus merges learnt from two lines of code: the names of three concepts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    lines = [
        "n = len(xs) + len(ys); print(n); n = None",
        "$n = count($xs) + count($ys); echo $n; $n = null;",
    ] * 4
    bpe.train_from_iterator(
        lines, vocab_size=VOCABULARY, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|endoftext|>")


@pytest.fixture
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a directory of checkpoints: `make_run("runs", steps=[0, 10])` with a random model each."""

    def write(name: str = "run", *, steps: Sequence[int] = (0, 10, 20), family: str = "gpt2") -> Path:
        import json

        for step in steps:
            path = tmp_path / name / f"checkpoint-{step}"
            make_model(family, seed=step).save_pretrained(path)
            byte_tokenizer().save_pretrained(path)
            log = [{"step": s, "loss": 3.0 - s / 100, "learning_rate": 1e-3} for s in steps if s <= step]
            (path / "trainer_state.json").write_text(json.dumps({"log_history": log, "global_step": step}))
        return tmp_path / name

    return write
