"""Walking through a series: 8 random checkpoints of the 124 M GPT-2, 12 layers × 768 with 50,257 tokens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from babelscope.analyses.store import Store
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.checkpoint import Checkpoint
from babelscope.checkpoints.live import LiveModel
from babelscope.checkpoints.series import Series
from babelscope.corpora.babel import BabelWorld
from babelscope.interp.anatomy import Anatomy
from babelscope.interp.batching import Batch, batches
from babelscope.interp.loss import LanguageLoss
from babelscope.interp.measure import Item
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.observe import observe
from babelscope.interp.streams import PromptReading, PromptStream, TextReading, TextStream
from babelscope.interp.working_language import WorkingLanguage
from babelscope.probes.identifiers import Probe, ProbeSet
from benchmarks.row import Row, Work

FOLDER = "BENCHMARK_SERIES"
CHECKPOINTS = 8
PROMPTS, LENGTH, TOKENS = 256, 32, 1 << 12
CONCEPTS, MEMBERS = 8, 3
LANGUAGES = ("python", "php")
TOP = 5


def write(folder: Path) -> None:
    """The series that all rows share, with a tokenizer that no row uses for reading."""
    BabelWorld(0).write_tokenizer(folder / "tokenizer")
    for step in range(CHECKPOINTS):
        torch.manual_seed(step)
        path = folder / "run" / f"checkpoint-{step}"
        GPT2LMHeadModel(GPT2Config()).save_pretrained(path)
        shutil.copytree(folder / "tokenizer", path, dirs_exist_ok=True)
    os.sync()  # else the disk is still busy when the first rows are timed


def _series() -> Series:
    return Series.open(Path(os.environ[FOLDER]) / "run")


def _turns() -> Iterator[Checkpoint]:
    """One checkpoint after another, all in the page cache: whoever reads first must not pay for all."""
    series = _series()
    for checkpoint in series:
        with open(checkpoint.path / "model.safetensors", "rb") as file:
            while file.read(1 << 24):
                pass
    return cycle(series)


@cache
def prompts(count: int = PROMPTS) -> PromptReading:
    """Prompts of random tokens; what they say decides nothing about the time."""
    rng = np.random.default_rng(0)
    vocabulary = GPT2Config().vocab_size
    concepts = tuple(f"concept {n}" for n in range(CONCEPTS))
    probes = tuple(
        Probe(concepts[n // 2 % CONCEPTS], LANGUAGES[n % 2], "", f"its {LANGUAGES[n % 2]} name")
        for n in range(count)
    )
    own = rng.permutation(vocabulary)[: CONCEPTS * len(LANGUAGES) * MEMBERS].reshape(CONCEPTS, -1, MEMBERS)
    return PromptReading(
        items=[Item(rng.integers(0, vocabulary, LENGTH), n) for n in range(count)],
        probes=probes,
        languages=LANGUAGES,
        concepts=concepts,
        sets={(c, w): own[i, j] for i, c in enumerate(concepts) for j, w in enumerate(LANGUAGES)},
        frequency=rng.integers(0, 1000, vocabulary),
        dropped=(),
        elsewhere=rng.integers(0, LENGTH - 1, count),
    )


def _batches() -> list[Batch]:
    return list(batches(prompts().items, tokens=TOKENS, device=torch.device("cpu")))


def _working_language(anatomy: Anatomy) -> object:
    reading = prompts()
    measure = WorkingLanguage(PromptStream(ProbeSet(reading.probes), background={"python": ["x"]}))
    observer = measure.observer(anatomy, reading, reading.items)
    observe(anatomy, reading.items, [(measure.sites, observer)], tokens=TOKENS)
    return observer.result()


def _sweeping(dtype: torch.dtype = torch.float32) -> Work:
    live, turns = LiveModel(_series(), dtype=dtype, prefetch=False), _turns()
    return lambda: _working_language(live.at(next(turns)))


def _bare() -> Work:
    """Load a checkpoint the quickest way and run the model on the batches."""
    read, model = _raw()

    def work() -> None:
        read()
        with torch.no_grad():
            for batch in _batches():
                model(batch.input_ids, use_cache=False)

    return work


def _floor() -> Work:
    """What reading hidden states takes at least: a copy of the weights and the blocks, without logits."""
    live, turns = LiveModel(_series(), prefetch=False), _turns()

    def work() -> None:
        anatomy = live.at(next(turns))
        for batch in _batches():
            anatomy.run(batch.input_ids, see={})

    return work


def _raw() -> tuple[Work, GPT2LMHeadModel]:
    """A raw safetensors read and a copy into the parameters."""
    model, turns = GPT2LMHeadModel(GPT2Config()).eval(), _turns()
    into = {name: parameter.data for name, parameter in model.named_parameters()}

    def work() -> None:
        for name, value in load_file(next(turns).path / "model.safetensors").items():
            into[name].copy_(value)

    return work, model


def _swap() -> Work:
    live, turns = LiveModel(_series(), prefetch=False), _turns()
    return lambda: live.at(next(turns))


def _from_pretrained() -> Work:
    """And each weight read once: transformers maps the file and leaves the reading to whoever comes next."""
    turns = _turns()

    def work() -> None:
        model = AutoModelForCausalLM.from_pretrained(next(turns).path, dtype=torch.float32)
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()

    return work


def _transformer_lens() -> Work:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis import logit_lens

    turns = _turns()

    def work() -> None:
        path = next(turns).path
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path)
        bridge = TransformerBridge.boot_transformers(
            "GPT2LMHeadModel", hf_model=model, tokenizer=tokenizer, device="cpu"
        )
        for batch in _batches():
            logit_lens(bridge, batch.input_ids, top_k=TOP)

    return work


def _usual_recipe() -> Work:
    """All hidden states, every position unembedded, softmax: what most published code does."""
    turns = _turns()

    def work() -> None:
        model = AutoModelForCausalLM.from_pretrained(next(turns).path, dtype=torch.float32).eval()
        with torch.no_grad():
            for ids in torch.cat([batch.input_ids for batch in _batches()]).split(64):
                states = model(ids, output_hidden_states=True, use_cache=False).hidden_states
                for hidden in states[1:]:
                    model.lm_head(model.transformer.ln_f(hidden)).softmax(-1)[:, -1].topk(TOP)

    return work


def _firing() -> tuple[Work, Work]:
    """Counts of all 36,864 neurons in the forward pass that is made anyway."""
    anatomy = LiveModel(_series(), prefetch=False).at(next(_turns()))
    rows = np.arange(PROMPTS)
    reading = TextReading(prompts().items, LANGUAGES, rows % 2, rows, np.full(PROMPTS, LENGTH))
    stream = TextStream({"python": ["x"], "php": ["y"]})

    def ours() -> None:
        measure = TransferringNeurons(stream)
        observer = measure.observer(anatomy, reading, reading.items)
        observe(anatomy, reading.items, [(measure.sites, observer)], tokens=TOKENS)

    def bare() -> None:
        with torch.no_grad():
            for batch in _batches():
                anatomy.base(batch.input_ids, use_cache=False)

    return ours, bare


def _one_more() -> tuple[Work, Work]:
    """A sweep of a finished series with one more checkpoint, and of that checkpoint alone."""
    series = _series()
    last = series.checkpoints[-1]
    alone = series.without({c.step for c in series if c != last}, ())
    text = {language: ["a b c d e f g h " * 500] for language in LANGUAGES}
    measures = [LanguageLoss(TextStream(text, tokens=4000))]
    finished = series.state / "finished"
    sweep(series.without({last.step}, ()), measures, store=Store(finished))

    def measuring(series: Series, store: Callable[[Path], object]) -> Work:
        def work() -> None:
            place = series.state / "again"
            shutil.rmtree(place, ignore_errors=True)
            store(place)
            sweep(series, measures, store=Store(place))

        return work

    return measuring(series, lambda place: shutil.copytree(finished, place)), measuring(alone, Path.mkdir)


ROWS = {
    "swap to the next checkpoint / raw safetensors read and copy": Row(
        lambda: (_swap(), _raw()[0]), 1.2, rounds=21
    ),
    "swap to the next checkpoint / from_pretrained": Row(lambda: (_swap(), _from_pretrained()), 1.0),
    "working-language sweep / load and bare forward pass": Row(
        lambda: (_sweeping(), _bare(), _floor()), 1.10, rounds=3
    ),
    "working-language sweep / TransformerLens": Row(
        lambda: (_sweeping(), _transformer_lens(), _floor()), 1 / 1.8, rounds=3
    ),
    "working-language sweep / all hidden states, every position": Row(
        lambda: (_sweeping(), _usual_recipe(), _floor()), 1 / 6, rounds=2
    ),
    "working-language sweep in bfloat16 / in float32": Row(
        lambda: (_sweeping(torch.bfloat16), _sweeping()), 0.5, rounds=3
    ),
    "firing counts of 36,864 neurons / bare forward pass": Row(_firing, 1.10, rounds=3),
    "one more checkpoint in a finished series / that checkpoint alone": Row(_one_more, 1.1, rounds=3),
}
