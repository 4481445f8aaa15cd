"""What was found of one thing that was tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from rankbench.bench.run.failures import Failure


@dataclass(frozen=True)
class Verdict:
    """A few words for each thing that it should do."""

    what: str
    kept: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    def judge(self, holds: bool, told: str) -> None:
        """Note what was found."""
        (self.kept if holds else self.faults).append(told)

    def failed(self, what: str, why: Failure, *, expected: bool = False) -> None:
        """Note what could not be tried; `expected` where that is as it should be."""
        self.judge(expected, f"{what}: {why.reason}")
        if not expected:
            self.tracebacks.append(why.traceback)
