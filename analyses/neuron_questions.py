"""What is measured to find a series' neurons, to check them, and to check the scores that found them.

    scoring     every score at every checkpoint, and of a random model        -> sets, by one rule
    ablating    the sets of every checkpoint, or of some                      -> whether they matter
    exact       single neurons, a sample, at a few checkpoints                -> whether the scores are right

What is scored decides what is ablated, so these are three sweeps of one store; each resumes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from babelscope.analyses.planning import plan
from babelscope.analyses.questions import Questions
from babelscope.analyses.sharding import Shard
from babelscope.analyses.sweep import Results, sweep
from babelscope.checkpoints.series import Series
from babelscope.core.errors import InputError
from babelscope.interp.activations import excerpts
from babelscope.interp.attribution import GradientAttribution
from babelscope.interp.identifier_attribution import DirectEffect, IdentifierAttribution
from babelscope.interp.measure import FromModel
from babelscope.interp.neuron_blocks import DRAWS
from babelscope.interp.neuron_scores import method_of
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.plnd import PlndFfn, PlndKey, PlndQuery, PlndValue
from babelscope.interp.selection import Fdr, Frozen, Lape, Rule
from babelscope.interp.set_ablation import SetAblation, SetAblationChoice
from babelscope.interp.single_ablation import SingleAblation, SingleAblationChoice
from babelscope.interp.streams import PromptStream, TextStream
from babelscope.interp.top_activations import TopActivations

ABLATED_TOKENS = 4_000  # of a language: it is read for every set, mode and random set
EXACT_TOKENS = 1_000  # of a language: it is read for every neuron of the sample


LOWEST = 1 / (DRAWS + 1)  # the real way of giving blocks to languages counts as one of the random ones


class RuleName(StrEnum):
    """By which rule scores become sets."""

    LAPE = "lape"
    FROZEN = "frozen"
    FDR = "fdr"


class Score(StrEnum):
    """The scores of MLP neurons that sets can be made of."""

    FIRING = "transferring_neurons"
    PLND = "plnd_ffn"
    GRADIENT = "gradient_attribution"
    CHOICE = "identifier_attribution"
    DIRECT = "direct_effect"


@dataclass(frozen=True)
class NeuronQuestions:
    """What is asked about the neurons of one series.

    Attributes
    ----------
    series, questions
        With pivot and target; held-out text and identifier probes.
    score, rule
        What sets are made of, and how: the paper's lowest 1 % of entropies, the same at the first
        checkpoint's thresholds (both of firing only), or at a false-discovery rate.
    level, most
        Of rule "fdr": the rate, and the largest share of all neurons that a language may have.
    attention
        Whether neurons of values, queries and keys are scored too.
    ablated, exact
        At how many checkpoints sets are ablated (None: at all), and a sample of single neurons.
    """

    series: Series
    questions: Questions
    score: Score = Score.FIRING
    rule: RuleName = RuleName.LAPE
    level: float = 0.1
    most: float | None = None
    attention: bool = False
    ablated: int | None = None
    exact: int = 3

    def __post_init__(self) -> None:
        if self.rule is not RuleName.FDR and self.score is not Score.FIRING:
            raise InputError(
                f"rule {self.rule.value!r} is about how often neurons fire, not about {self.score.value};"
                " give --rule fdr"
            )
        if not LOWEST <= self.level < 1:
            raise InputError(
                f"a false-discovery rate of {self.level:g}: give one from {LOWEST:.3f}, which {DRAWS} random"
                " draws resolve, up to 1"
            )
        if self.most is not None and not 0 < self.most <= 1:
            raise InputError(f"at most {self.most:g} of all neurons: give a share between 0 and 1")
        if (self.ablated or 0) < 0 or self.exact < 0:
            raise InputError("a number of checkpoints cannot be negative; 0 leaves the check out")

    @property
    def pivot(self) -> str:
        return str(self.series.pivot)

    @property
    def target(self) -> str:
        return str(self.series.target)

    def text(self) -> TextStream:
        """What is scored on: all held-out text."""
        return TextStream(self.questions.texts, tokens=self.questions.tokens, window=self._window)

    def excerpts(self, tokens: int) -> TextStream:
        """Less text of as many documents, since documents are what intervals resample."""
        texts = excerpts(self.questions.texts)
        return TextStream(texts, tokens=min(tokens, self.questions.tokens), window=self._window)

    @property
    def _window(self) -> int:
        return min(512, self.series.context or 512)

    def prompts(self) -> PromptStream:
        """Identifier probes of pivot and target."""
        return PromptStream(
            self.questions.probes, background=self.questions.texts, context=self.series.context
        )

    def scoring(self) -> list[FromModel[Any]]:
        """Every score, of all neurons."""
        text = self.text()
        measures = [*self._scores(text), TopActivations(text)]
        if self.attention:
            measures += [PlndValue(text), PlndQuery(text), PlndKey(text)]
        return measures

    def rule_of(self, scored: Results) -> Rule:
        """The rule, with what it takes from other models: the first checkpoint's, the random one."""
        if self.rule is RuleName.FDR:
            name = method_of(self.score).name
            return Fdr(name, level=self.level, reference=scored.null(name), most=self.most)
        if self.rule is RuleName.FROZEN:
            return Frozen(Lape().thresholds(scored[self.score].isel(step=0)))
        return Lape()

    def ablating(self, rule: Rule) -> list[FromModel[Any]]:
        """The sets that a rule makes at each checkpoint, ablated and steered."""
        text = self.excerpts(ABLATED_TOKENS)
        needs = next(measure for measure in self.scoring() if measure.name == self.score)
        return [
            SetAblation(text, needs=needs, rule=rule),
            SetAblationChoice(
                self.prompts(), text=text, needs=needs, rule=rule, pivot=self.pivot, target=self.target
            ),
        ]

    def exactly(self) -> list[FromModel[Any]]:
        """Single neurons, zeroed one after another, and the scores of the very text that this is done on.

        On other text they would differ by what texts differ, too: single neurons do little.
        """
        text = self.excerpts(EXACT_TOKENS)
        return [
            *self._scores(text),
            SingleAblation(text),
            SingleAblationChoice(self.prompts(), text=text, pivot=self.pivot, target=self.target),
        ]

    def _scores(self, text: TextStream) -> list[FromModel[Any]]:
        """Those of the MLP's neurons."""
        prompts = self.prompts()
        return [
            TransferringNeurons(text),
            PlndFfn(text),
            GradientAttribution(text),
            IdentifierAttribution(prompts, pivot=self.pivot, target=self.target),
            DirectEffect(prompts, pivot=self.pivot, target=self.target),
        ]

    def some(self, number: int | None) -> Series:
        """So many of the checkpoints, the last among them, evenly spread; all where None."""
        steps = self.series.steps
        if number is None or number >= len(steps):
            return self.series
        places = np.linspace(0, len(steps) - 1, number + 1).round().astype(int)[1:]
        kept = {steps[place] for place in places}
        return self.series.without({step for step in steps if step not in kept}, self.series.findings)

    def plan(self, **how: Any) -> dict[str, Any]:
        """What measuring would cost, for each of the three sweeps; `how` is as for `planning.plan`.

        Until every score is known the sets are not: what they would cost is then told of the paper's rule's.
        """
        cost = {"scores": plan(self.series, self.scoring(), **how)}
        missing = cost["scores"]["results_missing"] > 0
        rule = Lape() if missing else self._known_rule(dtype=how.get("dtype", "float32"))
        for name, number, measures in (
            ("sets", self.ablated, self.ablating(rule)),
            ("single neurons", self.exact, self.exactly()),
        ):
            if number != 0:
                cost[name] = plan(self.some(number), measures, **how)
        return cost

    def _known_rule(self, *, dtype: str) -> Rule:
        """The rule, if every score is stored; the paper's until then. Nothing is computed."""
        nobody = Shard(len(self.series) + 1, len(self.series) + 2)  # has no checkpoint, nor the random model
        scored = sweep(self.series, self.scoring(), dtype=dtype, shard=nobody)
        return Lape() if scored.owed else self.rule_of(scored)
