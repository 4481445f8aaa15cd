"""One run on a terminal: its text, its curve, how sure its score is, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rankbench.bench.cli import main
from rankbench.bench.records import FailureRecord, Folders, Forgetting, RunRecord, write_record
from rankbench.reports.single.plot import plot
from rankbench.reports.single.scores import over_items
from tests.made_records import accuracy, curve, run_record

FAILURE = {
    "suite": "made",
    "task": "movie",
    "adapter": "full",
    "seed": 0,
    "fingerprint": "",
    "kind": "diverged",
    "reason": "loss is nan",
    "traceback": "Traceback (most recent call last):\nRunFailed: loss is nan\n",
    "step": 7,
    "config": {"task": {"name": "movie"}, "model": {"name": "tiny"}, "adapter": {"name": "full"}},
    "provenance": {"device": "cpu"},
}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.chdir(tmp_path)
    return Folders(Path("results/made"))


def write(folders: Folders, hits: list[int] | None = None, **changes: object) -> RunRecord:
    record = run_record("movie", "lora", 0, **changes)
    cell = "movie--lora--s0"
    if hits is not None:
        record = record.model_copy(
            update={"metrics": accuracy(float(np.mean(hits))), "predictions": f"{cell}.parquet"}
        )
        folders.predictions(cell).parent.mkdir(parents=True)
        items = {"item": [str(i) for i in range(len(hits))], "target": 1, "prediction": hits}
        pd.DataFrame(items).to_parquet(folders.predictions(cell))
    write_record(folders.record(cell), record)
    return record


def test_a_falling_line_is_drawn_from_the_upper_left_to_the_lower_right() -> None:
    drawn = plot(range(1, 11), [float(10 - i) for i in range(10)], width=40, height=10).splitlines()
    assert [line.partition("|")[2] for line in drawn[:10]] == [" " * i + "*" for i in range(10)]
    assert drawn[0].split("|")[0].strip() == "10"
    assert drawn[9].split("|")[0].strip() == "1"
    assert drawn[10].strip() == f"+{'-' * 10}"
    assert drawn[11].split() == ["1", "step", "10"]


def test_more_steps_than_columns_are_averaged() -> None:
    alternating = [1.0, 3.0] * 50
    (line, *_) = plot(range(1, 101), alternating, width=50).splitlines()
    assert line == f"2 |{'*' * 50}"


def test_decades_are_drawn_by_logarithms() -> None:
    steps = range(1, 13)
    fall = [10.0 ** (-i) for i in range(12)]
    drawn = plot(steps, fall, width=40, height=12).splitlines()
    assert [line.partition("|")[2] for line in drawn[:12]] == [" " * i + "*" for i in range(12)]
    assert "logarithms" in plot(range(100), [10.0 ** (-i / 10) for i in range(100)], width=60)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.0, 0.0, 0.0], [-1.0, 1.0], [1e300, 1e-300]])
def test_odd_curves_are_drawn_too(values: list[float]) -> None:
    assert plot(range(1, len(values) + 1), values, width=40).count("*") == len(values)


def test_the_interval_of_an_accuracy_is_students(folders: Folders) -> None:
    hits = [1] * 30 + [0] * 10
    record = write(folders, hits)
    expected = stats.ttest_1samp(hits, 0).confidence_interval(0.95)
    found = over_items(folders.root / "runs", record)
    assert found == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_an_interval_ends_where_the_metric_does_and_needs_items_that_differ(folders: Folders) -> None:
    record = write(folders, [1] * 9 + [0])
    found = over_items(folders.root / "runs", record)
    assert found is not None
    assert found[1] == 1.0
    same = write(Folders(Path("results/same")), [1] * 10)
    assert over_items(Path("results/same/runs"), same) is None
    assert over_items(Path("results/none/runs"), run_record("movie", "lora", 0)) is None


def test_a_run_is_shown(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    hits = [1] * 30 + [0] * 10
    config = {
        "adapter": {"name": "lora", "rank": 4},
        "learning_rate": 0.002,
        "task": {"task": "movie", "options": {"max_length": 64}},
        "training": {"steps": 10, "learning_rate": 0.001},
        "targets": ["query", "value"],
    }
    saved = {"sha256": "0" * 64, "bytes": 12345}
    lost = Forgetting(kind="loss", value=0.125, items=400, text="ab")
    write(folders, hits, config=config, saved=saved, forgetting=lost)
    assert main(["show", "movie--lora--s0"]) == 0
    told = capsys.readouterr().out
    lines = dict(line.split(None, 1) for line in told.splitlines() if line[:1].isalpha())
    assert told.splitlines()[0] == "movie--lora--s0 of made"
    expected = stats.ttest_1samp(hits, 0).confidence_interval(0.95)
    assert f"75.00  [{100 * expected.low:.2f}, {100 * expected.high:.2f}] for other test items" in told
    assert lines["adapter"] == "lora: learning_rate 0.002, rank 4"
    assert lines["task"] == "movie: max_length 64"
    assert lines["forgetting"] == "0.125 (nats a token)"
    assert lines["training"] == "steps 10" or "training loss" in told
    assert lines["parameters"] == "1,500 trained, 1,200 of them the adapter's; 100,000 in all"
    assert "0.5 s a step" in lines["time"]
    assert lines["memory"] == "700 MiB at the peak"
    assert lines["record"] == "results/made/runs/movie--lora--s0.json"
    assert lines["saved"] == "results/made/runs/movie--lora--s0.safetensors, 12,345 bytes"
    assert "torch 2.13.0" in told
    assert "commit abababababab" in told
    assert told.count("*") == 10  # a mark for each step of the curve


@pytest.mark.parametrize("failure", [False, True])
@pytest.mark.parametrize(
    ("asked", "shown"), [({"weights": "bfloat16"}, "tiny, weights in bfloat16"), ({}, "tiny")]
)
def test_what_a_models_frozen_weights_were_held_in_is_shown(
    folders: Folders, capsys: pytest.CaptureFixture[str], asked: dict[str, str], shown: str, failure: bool
) -> None:
    config = {"task": {"name": "movie"}, "model": {"name": "tiny"} | asked, "adapter": {"name": "lora"}}
    if failure:
        told = FailureRecord.model_validate(FAILURE | {"adapter": "lora", "config": config})
        write_record(folders.failure("movie--lora--s0"), told)
    else:
        write(folders, config=config)
    assert main(["show", "made/movie--lora--s0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("model ")] == [shown]


def test_nothing_is_wider_than_the_terminal(
    folders: Folders, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folders, curve=curve([math.exp(-i / 50) for i in range(500)]))
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["show", "movie--lora--s0"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


def test_a_failed_run_says_why_and_where_on_request(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(folders.failure("movie--full--s0"), FailureRecord.model_validate(FAILURE))
    assert main(["show", "movie--full--s0"]) == 0
    told = capsys.readouterr().out
    assert "loss is nan at step 7 (diverged)" in told
    assert "`rankbench run --retry-failed` of the suite made tries it again" in " ".join(told.split())
    assert "RunFailed" not in told
    assert main(["show", "movie--full--s0", "--traceback"]) == 0
    assert "RunFailed: loss is nan" in capsys.readouterr().out


def test_what_failed_since_is_shown_beside_the_result(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folders)
    failure = FailureRecord.model_validate(
        {**FAILURE, "adapter": "lora", "kind": "memory", "reason": "no room"}
    )
    write_record(folders.failure("movie--lora--s0"), failure)
    assert main(["show", "movie--lora--s0"]) == 0
    told = capsys.readouterr().out
    assert "80.00" in told
    assert "Tried again since, without a result" in told
    assert "`rankbench run` of the suite made tries it again" in " ".join(told.split())


def test_json_holds_the_records_as_they_lie_on_the_disk(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folders, [1, 0, 1, 1])
    assert main(["show", "made/movie--lora--s0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["run", "folder", "record", "interval", "failure"]
    assert told["record"] == json.loads(folders.record("movie--lora--s0").read_text())
    assert (told["run"], told["folder"], told["failure"]) == ("movie--lora--s0", "results/made", None)
    assert told["interval"][0] < 0.75 < told["interval"][1]
    write_record(folders.failure("movie--full--s0"), FailureRecord.model_validate(FAILURE))
    assert main(["show", "movie--full--s0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["record"], told["interval"], told["failure"]["step"]) == (None, None, 7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["movie--lorra--s0"], "did you mean made/movie--lora--s0?"),
        (["made/movie--lora--s0", "--results", "nowhere"], "no folder of results 'made'"),
        (["movie--lora--s0", "--results", "://x"], "cannot use ://x"),
        (["movie--lora--s0", "--jsn"], "No such option: --jsn"),
        ([], "Missing argument 'RUN'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folders)
    assert main(["show", *words]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


def test_a_record_that_its_predictions_contradict_is_told_in_a_line(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write(folders, [1, 0])
    write_record(folders.record("movie--lora--s0"), record.model_copy(update={"metrics": accuracy(0.9)}))
    assert main(["show", "movie--lora--s0"]) == 2
    assert "gives accuracy 0.5, its record 0.9; delete both" in capsys.readouterr().err


def test_a_trial_says_on_which_split_it_was_scored(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folders, hits=[1, 0, 1, 1], config={"adapter": {"name": "lora"}, "scored_on": "selection"})
    assert main(["show", "made/movie--lora--s0"]) == 0
    told = capsys.readouterr().out
    assert "selection score" in told
    assert "for other selection items" in told


def test_a_run_of_a_suite_with_stages_says_when_is_judged(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folders, stages=[3, 5, 8])
    assert main(["show", "movie--lora--s0"]) == 0
    assert "claims are judged after 3, 5, 8 of them" in capsys.readouterr().out
    write(folders)
    assert main(["show", "movie--lora--s0"]) == 0
    assert "claims are judged" not in capsys.readouterr().out
