"""What one tokenizer leaves of the probes of a pivot and a target, concept by concept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from babelscope.core.errors import InputError
from babelscope.probes.identifiers import Probe, shared_probes
from babelscope.probes.placement import ENOUGH, Kind, Minimum, Place, Placement

NOT_DISTINGUISHABLE = "no distinguishable pairs"


@dataclass(frozen=True)
class ConceptAudit:
    """One concept in one language.

    Attributes
    ----------
    identifiers
        Every spelling.
    tokens
        The tokens that hold the identifier's first character, by id, as they stand in the programs.
    n_tokens
        Fewest and most tokens that the identifier takes.
    prompts, usable
        Prompts given, and those that can be asked.
    excluded
        Prompts left out, by kind.
    reasons
        One example of each kind, in words.
    """

    concept: str
    language: str
    identifiers: tuple[str, ...]
    tokens: dict[int, str]
    n_tokens: tuple[int, int]
    prompts: int
    usable: int
    excluded: dict[Kind, int]
    reasons: dict[Kind, str]


class ProbeAudit:
    """The probes of two languages in one tokenizer.

    Parameters
    ----------
    probes
        Probes of both languages; those of others are not looked at.
    tokenizer
        A fast one; offsets are needed.
    pivot, target
        The languages to be told apart.
    context
        Tokens that the model takes; no limit if None.
    minimum
        What must be left of each language.

    Attributes
    ----------
    placement_
        Where every probe is asked; None if the two languages have no distinguishable pairs.
    concepts_
        Each concept that both name, differently, in the pivot and in the target.
    verdict_
        "enough", "too few" or "no distinguishable pairs".
    shortfall_
        What is too little, and why, in words; empty if the verdict is "enough".
    """

    def __init__(
        self,
        probes: Iterable[Probe],
        tokenizer: Any,
        *,
        pivot: str,
        target: str,
        context: int | None = None,
        minimum: Minimum = ENOUGH,
    ):
        self.pivot, self.target, self.minimum = pivot, target, minimum
        self.placement_: Placement | None = None
        self.concepts_: tuple[ConceptAudit, ...] = ()
        try:
            told = shared_probes(probe for probe in probes if probe.language in (pivot, target))
        except InputError as error:
            self.verdict_, self.shortfall_ = NOT_DISTINGUISHABLE, str(error)
            return
        self.placement_ = Placement(told, tokenizer, context=context)
        self.concepts_ = tuple(
            _concept(self.placement_.of(language, concept))
            for concept in told.concepts
            for language in (pivot, target)
        )
        self.shortfall_ = self.placement_.shortfall(minimum)
        self.verdict_ = "too few" if self.shortfall_ else "enough"

    @property
    def concepts(self) -> tuple[int, int]:
        """Concepts that can be asked in both languages, and those given."""
        if self.placement_ is None:
            return 0, 0
        return len(self.placement_.concepts), len(self.placement_.probes.concepts)

    @property
    def prompts(self) -> tuple[int, int]:
        """Prompts of the target that can be asked, each one cell of every layer, and those given."""
        of_target = [one for one in self.concepts_ if one.language == self.target]
        return sum(one.usable for one in of_target), sum(one.prompts for one in of_target)

    @property
    def coverage(self) -> float | None:
        """Share of the target's prompts that can be asked; None where there are none."""
        usable, given = self.prompts
        return usable / given if given else None

    @property
    def excluded(self) -> dict[Kind, int]:
        """The target's prompts that are left out, by kind, the commonest first."""
        counts: Counter[Kind] = Counter()
        for one in self.concepts_:
            if one.language == self.target:
                counts.update(one.excluded)
        return dict(counts.most_common())

    def to_document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        usable, given = self.concepts
        usable_prompts, given_prompts = self.prompts
        return {
            "pivot": self.pivot,
            "target": self.target,
            "verdict": self.verdict_,
            "concepts": {"usable": usable, "given": given},
            "prompts": {"usable": usable_prompts, "given": given_prompts},
            "coverage": self.coverage,
            "excluded": self.excluded,
            "shortfall": self.shortfall_,
            "by_concept": [
                asdict(one) | {"tokens": [{"id": i, "text": text} for i, text in one.tokens.items()]}
                for one in self.concepts_
            ],
        }


def _concept(places: Sequence[Place]) -> ConceptAudit:
    probe = places[0].probe
    kinds: Counter[Kind] = Counter(place.kind for place in places if place.kind)
    sizes = [place.n_tokens for place in places]
    return ConceptAudit(
        probe.concept,
        probe.language,
        tuple(sorted({place.probe.identifier for place in places})),
        {place.token: place.text for place in places if place.token is not None},
        (min(sizes), max(sizes)),
        len(places),
        sum(place.kind is None for place in places),
        dict(kinds.most_common()),
        {place.kind: place.reason for place in reversed(places) if place.kind},
    )
