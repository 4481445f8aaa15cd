"""docs/add-a-claim.md, word for word: its entry and its function decide a claim."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rankbench.reports.claims import measurements
from rankbench.reports.claims.published import PUBLISHED
from rankbench.reports.claims.schema import load_claims
from rankbench.reports.study import Study
from tests.made_records import curve, run_record, save

PAGE = Path(__file__).parents[2] / "docs" / "add-a-claim.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def added(tmp_path: Path) -> Iterator[Path]:
    """A folder of claims with the page's entry, and its measurement in the registry."""
    exec(compile(block("python"), str(PAGE), "exec"), dict(vars(measurements)))
    entries = (PUBLISHED / "claims.yaml").read_text() + block("yaml")
    (tmp_path / "claims.yaml").write_text(entries)
    yield tmp_path
    del measurements.MEASUREMENTS["early_fall"]


@pytest.mark.parametrize(("late", "outcome"), [(1.0, "REPRODUCED"), (0.1, "NOT REPRODUCED")])
def test_the_page_adds_a_claim(added: Path, tmp_path: Path, late: float, outcome: str) -> None:
    """rsLoRA's loss falls as early as LoRA's, or a tenth as far."""
    for seed in range(3):
        for name, speed in (("lora", 1.0), ("rslora", late * (1 + seed / 100))):
            losses = [2.0 - speed * min(step, 4) / 8 for step in range(40)]
            config = {"adapter": {"name": name, "rank": 4}}
            save(tmp_path / "made", run_record("movie", name, seed, config=config, curve=curve(losses)))
    study = Study.read(tmp_path / "made")
    claims = [claim for claim in load_claims(added) if claim.id == "rslora-falls-early"]
    (verdict,) = Study(study.suite, claims=claims).verdicts
    assert (verdict.methods, verdict.outcome.value) == ("rslora against lora", outcome)
