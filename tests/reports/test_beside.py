"""Records set beside others: rows that both have, the answers of the others, what a command is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench.reports.render import markdown
from rankbench.reports.sections import beside
from rankbench.reports.study import Study
from tests.made_records import accuracy, run_record, save
from tests.reports.test_claims import claim
from tests.reports.test_questions import ASKED
from tests.reports.test_stages import SURE, saved


def runs(folder: Path, scores: dict[str, list[float]], **changes: object) -> Path:
    for label, values in scores.items():
        config = {"adapter": {"name": label.split("-")[0], "rank": 8 if "wide" in label else 4}}
        for seed, value in enumerate(values):
            save(folder, run_record("movie", label, seed, config=config, metrics=accuracy(value), **changes))
    return folder


def told(here: Path, there: Path) -> str:
    made = beside.section(Study.read(here, there))
    assert made is not None
    return markdown.section(made)


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_without_other_records_there_is_no_section(tmp_path: Path) -> None:
    assert beside.section(Study.read(runs(tmp_path, {"lora": [0.8, 0.81]}))) is None


def test_a_method_has_a_row_where_settings_and_protocol_agree_whatever_it_is_called(tmp_path: Path) -> None:
    here = runs(tmp_path / "here", {"lora": [0.80, 0.82], "dora": [0.7, 0.7], "hira-wide": [0.6, 0.6]})
    there = runs(tmp_path / "there", {"lora-4": [0.80, 0.83, 0.81], "hira": [0.6, 0.6]})
    (row,) = rows(told(here, there))
    assert row[:2] == ["movie: accuracy ×100 ↑", "lora"]
    assert [cell.split(" [")[0] for cell in row[2:4]] == ["81.00", "81.33"]
    assert [cell[-3:] for cell in row[2:4]] == ["(2)", "(3)"]
    assert row[4] == "1.00", "seed 1: 0.82 here, 0.83 there"


def test_another_protocol_is_not_set_side_by_side(tmp_path: Path) -> None:
    here = runs(tmp_path / "here", {"lora": [0.80, 0.82]})
    there = runs(tmp_path / "there", {"lora": [0.80, 0.83]}, protocol={"length": 8})
    assert "No method here has the settings and the protocol of one in `there`" in told(here, there)


def test_without_a_common_seed_nothing_is_said_of_runs(tmp_path: Path) -> None:
    here, there = runs(tmp_path / "here", {"lora": [0.80, 0.82]}), tmp_path / "there"
    config = {"adapter": {"name": "lora", "rank": 4}}
    save(there, *(run_record("movie", "lora", seed, config=config) for seed in (5, 6)))
    ((*_, last),) = rows(told(here, there))
    assert last == "–"


def test_what_the_others_answer_is_told_without_links_that_lead_nowhere(tmp_path: Path) -> None:
    here, there = runs(tmp_path / "here", {"lora": [0.80, 0.82]}), saved(tmp_path / "there", SURE[:5])
    claims = [claim(question=ASKED, margin=1.0)]
    study = Study.read(here)
    made = beside.section(Study(study.suite, beside=Study(Study.read(there).suite, claims=claims)))
    assert made is not None
    text = markdown.section(made)
    assert f"- **{ASKED}** REPRODUCED.\n  - " in text
    assert "](#claim" not in text


@pytest.mark.parametrize("word", ["there", "nowhere"])
def test_the_command_takes_a_folder_or_says_that_there_is_none(
    tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from rankbench.bench.cli import main

    runs(tmp_path / "here", {"lora": [0.80, 0.82]})
    runs(tmp_path / "there", {"lora": [0.80, 0.83, 0.81]})
    code = main(["report", str(tmp_path / "here"), "--beside", str(tmp_path / word)])
    if word == "there":
        assert code == 0
        page = (tmp_path / "here" / "report.md").read_text(encoding="utf-8")
        assert "\n## Beside there\n" in page
        assert " --beside there`" in page
    else:
        assert code == 2
        assert "no folder of results" in capsys.readouterr().err
        assert not (tmp_path / "here" / "report.md").exists()
