"""What is wrong with a series, in one form for all who look for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something wrong with a series; `step` is None where it concerns no single checkpoint."""

    step: int | None
    kind: str
    detail: str
