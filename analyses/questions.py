"""What to ask of a series: held-out text, identifier probes, problems; and the measures that ask it.

A run made by this project says so itself, in `questions.toml` beside its checkpoints:

    babel = { seed = 0, targets = ["php"] }      # the small Babel that generated its text
    code = { problems = ["primer"] }             # code problems, which are run; see `problem_sources`
    probes = ["probes/mine.toml"]                # identifier probes of one's own, beside the known ones
    best_by = ["pivot only", "both"]             # groups of problems that choose the best checkpoint
    available = { python = 11e9, php = 23e9 }    # tokens that exist, if not what the run's sources hold

Without that file the known identifier probes of pivot and target are asked. Held-out text is the run's
`heldout/<language>.jsonl` unless other text is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from babelscope.analyses.problem_sources import CodeAsked, Collected, collect
from babelscope.checkpoints.series import Series
from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.corpora.babel import BabelWorld
from babelscope.corpora.sources import read_collection
from babelscope.interp.activations import Activations, excerpts
from babelscope.interp.direction_effect import DirectionEffect
from babelscope.interp.language_identity import LanguageProbes
from babelscope.interp.lens_table import LensTable
from babelscope.interp.loss import LanguageLoss
from babelscope.interp.measure import Measure
from babelscope.interp.neurons import TransferringNeurons
from babelscope.interp.problem_scores import ProblemScores
from babelscope.interp.prompt_texts import ProbePrompts
from babelscope.interp.streams import ProblemStream, PromptStream, TextStream
from babelscope.interp.tuned_lens import TunedTranslators
from babelscope.interp.working_language import WorkingLanguage
from babelscope.probes.identifiers import ProbeSet, shared_probes
from babelscope.probes.probe_files import probes_of, read_probe_files, read_probes
from babelscope.probes.problems import JoinedProblems, ProblemSet

FILE = "questions.toml"
LOOKED_AT = 24  # last positions of the prompts that are shown as examples
PROBED_TOKENS = 10_000  # of a language: positions for linear probes are sampled from as much text, at most


class Lens(StrEnum):
    """What states are read with."""

    LOGIT = "logit"
    TUNED = "tuned"


class Extra(StrEnum):
    """What is measured only where it is asked for."""

    CAUSAL = "causal"
    LINEAR_PROBES = "linear-probes"
    NEURONS = "neurons"


class BabelQuestions(Strict):
    """The small Babel whose functions are asked for; `arm` and sizes as in `BabelWorld`."""

    seed: int = 0
    targets: tuple[str, ...] = Field(min_length=1)
    arm: str = "babel"

    @property
    def world(self) -> BabelWorld:
        return BabelWorld(self.seed, targets=self.targets, arm=self.arm)  # pyright: ignore[reportArgumentType]


class QuestionsFile(Strict):
    """`questions.toml`; paths are relative to it, `tokens` is held-out text to read per language."""

    tokens: int = Field(default=20_000, ge=100)
    babel: BabelQuestions | None = None
    code: CodeAsked | None = None
    probes: tuple[Path, ...] = ()
    best_by: tuple[str, ...] = ()
    available: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Questions:
    """What a series is asked.

    Attributes
    ----------
    texts
        Held-out documents by language, pivot first.
    probes
        Of pivot and target.
    problems
        In pivot and target; None where there are none to solve.
    tokens
        Held-out text to read per language and checkpoint.
    best_by
        Groups of problems that choose the best checkpoint and compare mixes; all problems if empty.
    available
        Tokens of each language that exist; where empty, what the run's sources hold.
    notes
        Problems that were left out, and why.
    """

    texts: Mapping[str, list[str]]
    probes: ProbeSet
    problems: ProblemSet | None
    tokens: int
    best_by: tuple[str, ...] = ()
    available: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        series: Series,
        *,
        texts: Mapping[str, Path] | None = None,
        file: Path | None = None,
        tokens: int | None = None,
        available: Mapping[str, int] | None = None,
        probes: Sequence[Path] = (),
        code: CodeAsked | None = None,
    ) -> Questions:
        """The questions of a series.

        Parameters
        ----------
        series
            With pivot and target.
        texts
            Held-out text by language, instead of the run's own.
        file
            A questions file, instead of the run's own.
        tokens
            Held-out text to read per language, instead of what the file says.
        available
            Tokens that exist of each language, instead of what the file says.
        probes
            Files of identifier probes, beside those that the file names and the known ones.
        code
            Code problems, instead of those that the file says.

        Raises
        ------
        InputError
            If pivot or target is not known, a language has no text or no probes, or no problem is of a group.
        """
        if series.pivot is None or series.target is None:
            raise InputError(
                f"{series.directory} does not say its pivot and target; give --pivot and --target"
            )
        languages = (series.pivot, series.target)
        if series.pivot == series.target:
            raise InputError(
                f"pivot and target are both {series.pivot!r}; give the language that is being learnt"
            )
        file, asked = questions_file(series, file)
        base = file.parent if file else None
        problems, collected = asked_problems(series, languages, asked, code=code, base=base)
        own = [*(base / path for path in asked.probes if base), *probes]
        identifiers = _probes(languages, asked.babel, own)
        groups = list(dict.fromkeys(problem.group for problem in problems.problems)) if problems else []
        if unknown := [group for group in asked.best_by if group not in groups]:
            raise InputError(f"{file}: best_by = {unknown}, but the groups of problems are {groups}")
        return cls(
            {language: _documents(series, language, texts or {}) for language in languages},
            identifiers.of(*languages),
            problems,
            tokens or asked.tokens,
            asked.best_by,
            available or asked.available,
            collected.notes if collected else (),
        )

    def measures(
        self, series: Series, *, lens: Lens = Lens.LOGIT, also: Collection[Extra] = ()
    ) -> list[Measure[Any]]:
        """Every measure that these questions allow, on windows that fit the model's context.

        Parameters
        ----------
        lens
            What states are read with; the tuned lens is trained first, on the same text.
        also
            What is measured only where it is asked for, since it takes longer. Neurons are not among these
            measures: what is ablated depends on scores (`neuron_questions`).
        """
        window = min(512, series.context or 512)
        text = TextStream(self.texts, tokens=self.tokens, window=window)
        prompts = PromptStream(self.probes, background=self.texts, context=series.context)
        examples = ProbePrompts(prompts, language=str(series.target))
        translators = TunedTranslators(text) if lens is Lens.TUNED else None
        wanted: list[Measure[Any]] = [
            LanguageLoss(text),
            TransferringNeurons(text),
            WorkingLanguage(prompts, translators=translators),
            LensTable(examples, last=LOOKED_AT, translators=translators),
        ]
        if Extra.CAUSAL in also:
            wanted.append(DirectionEffect(prompts, pivot=str(series.pivot), target=str(series.target)))
        if Extra.LINEAR_PROBES in also:
            tokens = min(self.tokens, PROBED_TOKENS)
            activations = Activations(TextStream(excerpts(self.texts), tokens=tokens, window=window))
            wanted += [activations, LanguageProbes(activations)]  # the former by itself too: it has a null
        if self.problems is not None:
            wanted.append(ProblemScores(ProblemStream(self.problems)))
        return wanted


def questions_file(series: Series, file: Path | None = None) -> tuple[Path | None, QuestionsFile]:
    """The questions file of a series, or the one given instead; its path is None where there is none."""
    own = series.directory / FILE
    file = file or (own if own.exists() else None)
    return file, QuestionsFile.from_toml(file) if file else QuestionsFile()


def asked_problems(
    series: Series,
    languages: Sequence[str],
    asked: QuestionsFile,
    *,
    code: CodeAsked | None = None,
    base: Path | None = None,
    workers: int | None = None,
) -> tuple[ProblemSet | None, Collected | None]:
    """The problems of a questions file in some languages, and what is known of the code problems among them.

    Parameters
    ----------
    code
        Code problems instead of the file's own problems of any kind; relative to where the command is run.
    base
        What the file's own paths are relative to.
    workers
        Programs that are run at a time.
    """
    wanted = code or asked.code
    sets: list[ProblemSet] = []
    collected = None
    if asked.babel and not code:
        sets += [asked.babel.world.problems(language) for language in languages]
    if wanted:
        collected = collect(
            wanted,
            languages,
            base=Path() if code or not base else base,
            verdicts=series.state / "verdicts.sqlite",
            workers=workers,
        )
        sets.append(collected.problems)
    return (sets[0] if len(sets) == 1 else JoinedProblems(sets) if sets else None), collected


def _probes(languages: tuple[str, str], babel: BabelQuestions | None, own: Sequence[Path]) -> ProbeSet:
    """The known probes of both languages, or the small Babel's, and the user's own."""
    for path in own:
        language = read_probes(path)[0].language
        if language not in languages:
            raise InputError(
                f"{path}: probes of {language!r} say nothing about a series of {list(languages)}"
            )
    if babel:
        return shared_probes([*babel.world.probes(languages[1]).probes, *read_probe_files(own)])
    return shared_probes(probes_of(languages, own))


def _documents(series: Series, language: str, texts: Mapping[str, Path]) -> list[str]:
    path = texts.get(language, series.directory / "heldout" / f"{language}.jsonl")
    if not path.is_file():
        raise InputError(f"no held-out text for {language!r} at {path}; give --text {language}=FILE.jsonl")
    return [document.text for document in read_collection(path)]
