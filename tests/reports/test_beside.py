"""Records set beside others: rows that both have, the answers of the others, what a command is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench.bench.cli import main
from rankbench.bench.records import Metrics
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
    there = runs(tmp_path / "there", {"lora-4": [0.80, 0.83, 0.81], "lora-b": [0.8], "hira": [0.6, 0.6]})
    first, second = rows(told(here, there))
    assert first[:2] == ["movie: accuracy ×100 ↑", "lora (there lora-4)"]
    assert [cell.split(" [")[0] for cell in first[2:4]] == ["81.00", "81.33"]
    assert [cell[-3:] for cell in first[2:4]] == ["(2)", "(3)"]
    assert first[4] == "1.00", "seed 1: 0.82 here, 0.83 there"
    assert second[1:] == ["lora (there lora-b)", first[2], "80.00 (1)", "0.00"]


def test_packages_and_devices_that_a_folder_mixes_keep_no_method_apart(tmp_path: Path) -> None:
    here = runs(tmp_path / "here", {"lora": [0.80, 0.82]}, identity={"device": "cuda"})
    there = runs(tmp_path / "there", {"lora": [0.80, 0.83]}, identity={"device": "cpu"})
    runs(there, {"dora": [0.80, 0.83]}, identity={"device": "cuda"})
    assert len(Study.read(there).shown.groups) == 2
    ((_, label, *_),) = rows(told(here, there))
    assert label == "lora"


@pytest.mark.parametrize("change", ["protocol", "metric", "model"])
def test_what_was_asked_otherwise_is_not_set_side_by_side(tmp_path: Path, change: str) -> None:
    other = {"f1": 0.8}
    f1 = Metrics(main="f1", best=other, last=other, best_step=1, last_step=1)
    changes = {"protocol": {"length": 8}, "metric": f1, "model": "large"}
    here, there = runs(tmp_path / "here", {"lora": [0.80, 0.82]}), tmp_path / "there"
    config = {"adapter": {"name": "lora", "rank": 4}}
    name = "metrics" if change == "metric" else change
    save(there, run_record("movie", "lora", 0, config=config, **{name: changes[change]}))
    assert "No method here has the settings and the protocol of one there" in told(here, there)


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


def test_the_page_names_the_suites_of_the_others_and_how_it_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(tmp_path / "one" / "mine", {"lora": [0.80, 0.82]})
    runs(tmp_path / "two" / "mine", {"lora": [0.80, 0.83, 0.81]})
    assert main(["report", str(tmp_path / "one" / "mine"), "--beside", str(tmp_path / "two" / "mine")]) == 0
    page = (tmp_path / "one" / "mine" / "report.md").read_text(encoding="utf-8")
    assert "\n## Beside other records\n\nOther records, given with `--beside`: 3 runs of `made`.\n" in page
    assert "written with `--beside`" in page


def test_others_that_are_not_there_or_are_the_same_are_a_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = runs(tmp_path / "here", {"lora": [0.80, 0.82]})
    for word, line in (
        ("nowhere", "no folder of results"),
        ("here", "these are the report's own records"),
        ("", "no folder of results"),
    ):
        assert main(["report", str(here), "--beside", word and str(tmp_path / word)]) == 2
        assert line in capsys.readouterr().err
    assert not (here / "report.md").exists()
