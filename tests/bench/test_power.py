"""How many seeds and hours open claims take, on the terminal."""

from __future__ import annotations

import pytest

from rankbench.bench.cli import main
from rankbench.reports.claims.power import power
from rankbench.reports.study import Study
from tests.made_records import accuracy, run_record, save

GAINS = (1.0, -0.5, 2.5, 0.2, 1.6)
"""Points, a seed each: above zero by a little more than they spread."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, gain in enumerate(GAINS):
        for label, shift in (("lora", 0.0), ("scalora", gain / 100)):
            config = {"adapter": {"name": label, "rank": 4}}
            stages = {"stages": [3, 5, 8, 12, 20, 40]}
            metrics = accuracy(0.8 + 0.001 * seed + shift)
            save(
                tmp_path / "results/mine",
                run_record("movie", label, seed, config=config, metrics=metrics, **stages),
            )
    return tmp_path / "results/mine"


def test_every_open_claim_has_a_row_with_its_seeds_and_hours(folder, capsys):
    assert main(["power", "mine"]) == 0
    text = capsys.readouterr().out
    found = {one.claim.id: one for one in power(Study.read(folder))}
    rows = {line.split()[0]: line for line in text.splitlines() if line.split() and line.split()[0] in found}
    assert set(rows) == set(found)
    one = found["scalora-above-lora"]
    assert one.to_decide is not None
    assert one.hours == pytest.approx((one.to_decide - 5) * 2 * 12.5 / 3600)
    assert f" {one.seeds} " in rows["scalora-above-lora"]
    assert f" {one.to_decide} " in rows["scalora-above-lora"]
    out_of_reach = sum(line.endswith("–") for line in rows.values())
    assert 0 < out_of_reach < len(found)
    here = sum(min(one.to_decide or 99, one.to_equivalence or 99) <= 40 for one in found.values())
    assert 0 < here <= len(found) - out_of_reach
    within = len(found) - out_of_reach
    told = f"open claims: {len(found)}, of which {within} could be decided by more seeds, {here} by those"
    outcomes = [verdict.outcome.value for verdict in Study.read(folder).verdicts]
    reached = sum(outcomes.count(one) for one in ("REPRODUCED", "NOT REPRODUCED", "EQUIVALENT"))
    assert f"verdicts reached: {reached}; {told}" in text


def test_mistakes_are_one_line_and_one_seed_is_said(folder, capsys):
    for words, message in ((["nowhere"], "no folder of results 'nowhere'"), (["smoke"], "no records under")):
        assert main(["power", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    (folder / "runs/movie--lora--s0.json").write_text("{")
    assert main(["power", "mine"]) == 2
    assert "movie--lora--s0.json is corrupt" in capsys.readouterr().err
    for path in (folder / "runs").glob("*.json"):
        path.unlink()
    save(folder, run_record("movie", "lora", 0))
    assert main(["power", "mine"]) == 0
    assert "no claim is judged by it" in capsys.readouterr().out
