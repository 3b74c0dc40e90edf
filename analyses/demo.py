"""The whole loop on the small Babel, from nothing, in minutes on two cores.

    world → base that knows the pivot → continuation on a target → analysis → mix → corrective runs → report

Every run is made from a recipe that is written out first, so each can be repeated and changed with
`babelscope pretrain`. A demo that was killed goes on where it stopped.

The corrective runs have one training seed here: the difference between arms then carries the choice of
problems alone, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from babelscope.analyses.analysis import Analysis, analyse
from babelscope.analyses.arms import RECOMMENDED, reference_mixes, run_arms
from babelscope.analyses.questions import Questions
from babelscope.analyses.sweep import sweep
from babelscope.checkpoints.recipe import Recipe
from babelscope.checkpoints.series import Series
from babelscope.core.files import write_text
from babelscope.corpora.babel import Arm, BabelWorld

# How many documents exist of each language: the pivot's corpus is the smaller one, as in the paper.
DOCUMENTS = {"pivot": 8_000, "target": 96_000}
BASE_STEPS, STEPS, ARM_STEPS = 2000, 1000, 300  # of training: base, continuation, each corrective run
# The pivot's share of the continuation that is analysed, all of it in the first 150 steps: without
# it the base's knowledge is gone before the target can be written, and with it to the end it stays.
REPLAY, UNTIL = 0.008, 0.15
# Few before the target can be written, and dense after: what is resolved grows with their number.
CHECKPOINTS = [0, 1, 3, 10, 20, 30, *(round(45 * (STEPS / 45) ** (i / 39)) for i in range(40))]
ARMS_COMPARED = 3  # recommended, natural, uniform

QUESTIONS = """\
tokens = 5000
babel = {{ seed = {seed}, targets = ["{target}"], arm = "{arm}" }}
# The question of the demo: how much {target} goes with answering whatever {pivot}'s text tells?
best_by = ["pivot only", "both"]
"""

BASE = """\
# A model that knows {pivot} alone, but has seen every token of every language.
output = "base"
seed = {seed}
pivot = "{pivot}"

[model.scratch]
family = "gpt2"
n_layer = 6
n_embd = 128
n_head = 4
n_positions = 64
activation_function = "gelu_pytorch_tanh"  # GPT-2's own, in one kernel
resid_pdrop = 0.0
embd_pdrop = 0.0
attn_pdrop = 0.0

[tokenizer]
path = "world"

[[sources]]
language = "{pivot}"
path = "world/base.jsonl"
proportion = 1.0

[training]
steps = {base_steps}
batch_size = 16
sequence_length = 64
learning_rate = 1.2e-3
schedule = "cosine"
warmup_steps = 100
checkpoints = 2
"""

CONTINUATION = """\
# The base goes on with {target}, and at first with a little {pivot}.
output = "{target}"
seed = {seed}
pivot = "{pivot}"
target = "{target}"
questions = "world/questions.toml"

[model]
start = "base/checkpoint-{base_steps}"

[[sources]]
language = "{pivot}"
path = "world/{pivot}.jsonl"
proportion = {replay}
until = {until}

[[sources]]
language = "{target}"
path = "world/{target}.jsonl"
proportion = {rest}

[training]
steps = {steps}
batch_size = 32
sequence_length = 64
learning_rate = 8e-4
schedule = "constant"
warmup_steps = 30
weight_decay = 3.0  # what is no longer trained on fades
checkpoints = {checkpoints}
"""

# Processed tokens, schedule and start are the same for all arms; a mix replaces the proportions.
ARMS = (
    CONTINUATION.replace('output = "{target}"', 'output = "arms"')
    .replace("steps = {steps}", "steps = {arm_steps}")
    .replace("until = {until}\n", "")
    .replace("{checkpoints}", "2")
)


@dataclass(frozen=True)
class Demo:
    """One demonstration.

    Parameters
    ----------
    output
        Where everything goes.
    seed
        Of the world and of training.
    target
        The language that is learnt.
    arm
        The world itself, or a control of `BabelWorld`.
    """

    output: Path
    seed: int = 0
    target: str = "php"
    arm: Arm = "babel"

    def run(self, *, say: Callable[[str], None], arm_seeds: Sequence[int] = (0,)) -> Analysis:
        """Do all of it; `say` is told what begins."""
        from babelscope.checkpoints.pretrain import pretrain

        say(f"writing the small Babel (seed {self.seed}) to {self.output / 'world'}")
        self.write()
        say(f"training the base on {BabelWorld.pivot}: {BASE_STEPS} steps")
        pretrain(self.recipe("base"))
        say(f"continuing it on {self.target} with {REPLAY:.1%} {BabelWorld.pivot}: {STEPS} steps")
        run = pretrain(self.recipe("continuation"))
        say("measuring every checkpoint")
        series = Series.open(run)
        questions = Questions.of(series)
        analysis = analyse(sweep(series, questions.measures(series)), questions)
        mixes = reference_mixes(BabelWorld.pivot, series.available_tokens)
        mix = analysis.recommendation.mix if analysis.recommendation else None
        if mix is None or questions.problems is None:
            say("no mix is recommended, so there is nothing to compare")
            return analysis
        mix.save(self.output / "mix.json")
        mixes = {RECOMMENDED: mix} | mixes
        say(f"corrective runs: {', '.join(mixes)}, {ARM_STEPS} steps each, {len(arm_seeds)} training seed(s)")
        comparison = run_arms(
            self.recipe("arms"),
            mixes,
            seeds=arm_seeds,
            problems=questions.problems,
            best_by=questions.best_by,
            output=self.output / "arms",
        )
        return analysis.with_comparison(comparison)

    def plan(self, *, arm_seeds: int) -> dict[str, float]:
        """Training steps, tokens and an estimate of the seconds, timed on a few steps; nothing is kept."""
        from babelscope.checkpoints.pretrain import plan

        with TemporaryDirectory() as folder:
            elsewhere = replace(self, output=Path(folder))
            elsewhere.write()
            base = plan(elsewhere.recipe("base"))
        steps = BASE_STEPS + STEPS + ARM_STEPS * ARMS_COMPARED * arm_seeds
        return {
            "training_steps": steps,
            "tokens": steps * base["tokens"] // base["steps"],
            "seconds": round(steps * base["seconds_per_step"]),
        }

    def recipe(self, name: str) -> Recipe:
        """One of the recipes that were written; its start must exist by then."""
        return Recipe.from_toml(self.output / f"{name}.toml")

    def write(self) -> None:
        """Write the world's text, tokenizer and questions, and the recipes."""
        world = BabelWorld(self.seed, targets=(self.target,), arm=self.arm)
        folder = self.output / "world"
        world.write_tokenizer(folder)
        world.write_text(folder / "base.jsonl", BabelWorld.pivot, DOCUMENTS["pivot"], base=True)
        pivot, target = BabelWorld.pivot, self.target
        world.write_text(folder / f"{pivot}.jsonl", pivot, DOCUMENTS["pivot"])
        world.write_text(folder / f"{target}.jsonl", target, DOCUMENTS["target"])
        values = {
            "pivot": pivot,
            "target": target,
            "seed": self.seed,
            "base_steps": BASE_STEPS,
            "steps": STEPS,
            "checkpoints": [step for step in CHECKPOINTS if step <= STEPS],
            "arm_steps": ARM_STEPS,
            "arm": self.arm,
            "replay": REPLAY,
            "until": UNTIL,
            "rest": round(1 - REPLAY, 6),
        }
        write_text(folder / "questions.toml", QUESTIONS.format(**values))
        for name, text in (("base", BASE), ("continuation", CONTINUATION), ("arms", ARMS)):
            write_text(self.output / f"{name}.toml", text.format(**values))
