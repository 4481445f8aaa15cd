"""Which folder of results a word stands for: the same for `report` and `compare`."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench.bench.cli import main
from rankbench.bench.cli.results import results_folder
from rankbench.bench.records import RecordError
from tests.made_records import run_record, save


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`results/` of the working directory, with two suites that have records."""
    monkeypatch.chdir(tmp_path)
    for name in ("laptop", "mine"):
        save(Path("results") / name, run_record("movie", "lora", 0))
    Path("results/published").mkdir()
    Path("results/glue-small/checkpoints").mkdir(parents=True)
    return Path("results")


def test_a_path_and_a_name_are_the_same_folder(results: Path) -> None:
    assert results_folder("results/laptop", results) == results_folder("laptop", results)
    assert results_folder(str((results / "laptop").resolve()), results).samefile(results / "laptop")


def test_a_suite_file_goes_by_the_suites_name(results: Path) -> None:
    Path("file.yaml").write_text(
        "name: mine\nexperiments: {}\noverhead: {growth: {kind: growth, adapters: [lora], tokens: 4, "
        "base: {rank: 1, width: 8, layers: 1}, rank: [1], width: [8], layers: [1]}}"
    )
    assert results_folder("file.yaml", results) == results / "mine"
    with pytest.raises(RecordError, match=r"elsewhere/mine; run `rankbench run file\.yaml`"):
        results_folder("file.yaml", Path("elsewhere"))


def test_a_folder_without_records_does_not_hide_a_suite(results: Path) -> None:
    Path("laptop").mkdir()
    assert results_folder("laptop", results) == results / "laptop"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "no folder of results ''; known: laptop, mine"),
        ("results", "no records under results; known: laptop, mine"),
        ("results/published", "no records under results/published; known: results/laptop, results/mine"),
        ("results/laptpo", "no folder of results 'results/laptpo'; did you mean 'results/laptop'?"),
        ("results/glue-small", "no records under results/glue-small; run `rankbench run glue-small` first"),
        ("smoke", "no records under results/smoke; run `rankbench run smoke` first"),
    ],
)
def test_mistakes_name_the_way_out(
    word: str, message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["report", word], ["compare", word, "laptop"], ["compare", "laptop", word]):
        assert main(command) == 2
        assert capsys.readouterr().err == f"rankbench: {message}\n"


def test_a_report_of_a_path_is_written_there(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "results/laptop"]) == 0
    assert capsys.readouterr().out.split() == ["results/laptop/report.html", "results/laptop/report.md"]
    assert (results / "laptop" / "report.html").exists()


def test_runs_that_the_suite_no_longer_has_are_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More seeds than it lists were asked for, as `--seeds` does; another method's runs are of before."""
    Path("mine.yaml").write_text(
        "seeds: [0]\nexperiments: {movie: {task: {name: movie}, model: minilm-l6, targets: [query], "
        "training: {steps: 4, batch_size: 8, learning_rate: 1.0e-3}, adapters: {lora: {rank: 4}}}}"
    )
    save(results / "mine", run_record("movie", "lora", 1))
    assert main(["report", "mine.yaml"]) == 0
    assert capsys.readouterr().err == ""
    save(results / "mine", run_record("movie", "rslora", 0))
    assert main(["report", "mine.yaml"]) == 0
    assert capsys.readouterr().err.startswith("note: mine.yaml has no movie--rslora; it counts all the same")
