"""The `Mix` document: how much of each language to train on, and on what evidence.

Three quantities are easily taken for one another and are kept apart here (per language k):

    unique tokens      u_k   what is kept of the source; Algorithm 1 of "The Rise and Down of Babel Tower"
                             (arXiv 2412.07298) chooses these
    processed tokens   n_k   what the training run reads, repetition included: epochs e_k = n_k / u_k
    sampling weight    w_k   share of language k among the processed tokens, Σ w_k = 1

A mix is plain JSON with a format version. It names languages, never files, so that it can be published. It
holds no time of day and no more digits than mean something, so that the same input gives the same bytes and
two versions can be compared line by line, or in words by `changes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from babelscope.core.config import Strict
from babelscope.core.errors import InputError
from babelscope.core.files import read_json, write_json

WEIGHT_TOLERANCE = 1e-6
WEIGHT_DECIMALS = 8  # keeps the sum of hundreds of languages within the tolerance
DIGITS = 6  # of every other number with a fraction
FORMATS = (1, 2)  # 1 had neither decision nor bounds, wanted and present weights and available tokens


def check_sum(weights: dict[str, float], *, what: str) -> None:
    """Refuse weights that are not shares of one whole.

    Raises
    ------
    InputError
        If they do not sum to 1 within `WEIGHT_TOLERANCE`; the message quotes the sum and the weights.
    """
    total = sum(weights.values())
    if not abs(total - 1) <= WEIGHT_TOLERANCE:
        listed = ", ".join(f"{language} {weight:g}" for language, weight in weights.items()) or "none"
        remedy = f"divide each by {total:.6g}" if total > 0 else "give at least one above 0"
        raise InputError(f"{what} sum to {total:.6g}, not 1 ({listed}); {remedy}")


Decision = Literal["change", "keep", "not resolvable"]


def rounded(document: Any) -> Any:
    """The same plain document with `DIGITS` significant digits in every number that has a fraction."""
    if isinstance(document, dict):
        return {name: rounded(part) for name, part in document.items()}
    if isinstance(document, list | tuple):
        return type(document)(rounded(part) for part in document)
    return float(f"{document:.{DIGITS}g}") if isinstance(document, float) else document


class LanguageShare(Strict):
    """What a mix says about one language; None where it is not known.

    Parameters
    ----------
    weight
        Share of the processed tokens, in [0, 1].
    weight_interval
        Lower and upper bound of the recommended weight; it need not contain a weight that was then
        limited by what exists.
    weight_bounds
        Lowest and highest weight that budget, text, floor and ceiling allow; None where they allow any.
    wanted_weight
        What was wanted before budget, text, floors and ceilings limited it.
    present_weight
        What the user trains on now.
    unique_tokens
        Tokens to keep of the source.
    available_tokens
        Tokens that exist.
    processed_tokens
        Tokens that the run is meant to read.
    """

    weight: float = Field(ge=0, le=1)
    weight_interval: tuple[float, float] | None = None
    weight_bounds: tuple[float, float] | None = None
    wanted_weight: float | None = Field(default=None, ge=0, le=1)
    present_weight: float | None = Field(default=None, ge=0, le=1)
    unique_tokens: int | None = Field(default=None, ge=0)
    available_tokens: int | None = Field(default=None, ge=0)
    processed_tokens: int | None = Field(default=None, ge=0)

    @field_validator("weight", "wanted_weight", "present_weight")
    @classmethod
    def _to_what_counts(cls, weight: float | None) -> float | None:
        return None if weight is None else round(weight, WEIGHT_DECIMALS)

    @field_validator("weight_interval", "weight_bounds")
    @classmethod
    def _ordered(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError("an interval is [low, high] with 0 <= low <= high <= 1")
        return None if interval is None else rounded(interval)

    @property
    def epochs(self) -> float | None:
        """Times that each kept token is read; None unless both counts are known."""
        if self.processed_tokens is None or not self.unique_tokens:
            return None
        return self.processed_tokens / self.unique_tokens


class Mix(Strict):
    """A versioned recommendation of sampling weights and unique tokens per language.

    Parameters
    ----------
    languages
        One `LanguageShare` each; the weights sum to 1 within 1e-6.
    pivot
        The language whose system the others grow out of; one of `languages`.
    verdict
        One sentence for a reader: what is recommended and how sure it is.
    method
        How the weights were found ("algorithm-1", "natural", "uniform", …).
    decision
        Whether to leave the present mix for this one: "change", "keep" or "not resolvable"; None where that
        was not asked.
    provenance
        Whatever lets a reader trace it: series, measures, versions. Plain JSON, no absolute paths.
    format
        Version of this document's layout; files of format 1 are read as they are.

    Raises
    ------
    InputError
        From `Mix.parse`, `Mix.load`: a bad field, weights that do not sum to 1, a pivot that is not among
        the languages, an absolute path in the provenance, or a format of a later version.
    """

    format: Literal[1, 2] = 2
    languages: dict[str, LanguageShare]
    pivot: str
    decision: Decision | None = None
    verdict: str
    method: str
    provenance: dict[str, Any] = Field(default_factory=dict)

    @field_validator("format", mode="before")
    @classmethod
    def _known(cls, number: Any) -> Any:
        if number not in FORMATS:
            known = " and ".join(map(str, FORMATS))
            raise ValueError(f"format {number!r} is not one that is read here ({known}); update babelscope")
        return number

    @field_validator("provenance")
    @classmethod
    def _portable(cls, provenance: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        for text in _strings(provenance):
            if Path(text).is_absolute():
                raise ValueError(f"{info.field_name} holds the absolute path {text!r}; name it relatively")
        return rounded(provenance)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        check_sum(self.weights, what="the weights of the mix")
        if self.pivot not in self.languages:
            raise ValueError(f"the pivot {self.pivot!r} is not among the languages {list(self.languages)}")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Sampling weight of each language; sums to 1."""
        return {language: share.weight for language, share in self.languages.items()}

    def save(self, path: Path) -> None:
        """Write the document atomically."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; `InputError` names the file and what is wrong with it."""
        return cls.parse(read_json(path), origin=str(path))


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _strings(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _strings(part)]
    return [value] if isinstance(value, str) else []
