"""A suite takes over what another one beside it has done, and nothing that differs."""

from __future__ import annotations

import json

import yaml

from rankbench.bench.cli import main
from tests.bench.tiny_suite import TINY


def run(tmp_path, name: str, **changes) -> dict:
    content = yaml.safe_load(yaml.safe_dump(TINY))
    content["experiments"]["tiny"] |= changes
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["run", str(path), "--results", str(tmp_path / "results")]) == 0
    runs = tmp_path / "results" / name / "runs"
    return {path.stem: json.loads(path.read_text()) for path in runs.glob("*.json")}


def test_the_same_run_of_another_suite_is_taken_over_whole(tmp_path, capsys):
    first = run(tmp_path, "first")
    capsys.readouterr()
    second = run(tmp_path, "second", adapters={"lora": {"rank": 2}, "scalora": {"rank": 1}})
    seen = capsys.readouterr()
    assert "runs: 1 done, 1 there already" in seen.out
    assert "taken over from first" in seen.err
    taken, own = second["tiny--lora--s0"], first["tiny--lora--s0"]
    assert taken["suite"] == taken["config"]["suite"] == "second"
    assert taken["provenance"].pop("taken_over_from") == "first"
    own["suite"] = own["config"]["suite"] = "second"
    assert taken == own, "all else stays, timings and fingerprint too"
    runs = tmp_path / "results"
    assert (runs / "second/runs/tiny--lora--s0.parquet").read_bytes() == (
        runs / "first/runs/tiny--lora--s0.parquet"
    ).read_bytes()


def test_what_the_taking_suite_says_of_the_method_stands_in_the_record(tmp_path):
    first = run(tmp_path, "first")["tiny--lora--s0"]
    tuned = TINY["experiments"]["tiny"]["adapters"] | {"lora": {"rank": 2, "tuned": True}}
    second = run(tmp_path, "second", adapters=tuned)["tiny--lora--s0"]
    assert second["provenance"]["taken_over_from"] == "first", "it is the same run"
    assert (first["tuned"], second["tuned"]) == (False, True)


def test_what_was_taken_over_is_done_and_keeps_its_first_origin(tmp_path, capsys):
    for name in ("b", "a", "c"):
        runs = run(tmp_path, name)
    capsys.readouterr()
    assert runs["tiny--lora--s0"]["provenance"]["taken_over_from"] == "b", "though it was copied from a"
    run(tmp_path, "c")
    assert "runs: 0 done, 2 there already" in (seen := capsys.readouterr()).out
    assert "taken over" not in seen.err


def test_a_corrupt_record_of_another_suite_stops_nothing(tmp_path, capsys):
    run(tmp_path, "first")
    (tmp_path / "results/first/runs/tiny--lora--s0.json").write_text("{")
    capsys.readouterr()
    run(tmp_path, "second")
    seen = capsys.readouterr()
    assert "runs: 1 done, 1 there already, 0 failed" in seen.out
    (note,) = [line for line in seen.err.splitlines() if "corrupt" in line]
    assert note.startswith("nothing taken over from there: ")
    assert "first/runs/tiny--lora--s0.json" in note


def test_another_configuration_under_the_same_name_is_not(tmp_path, capsys):
    run(tmp_path, "first")
    capsys.readouterr()
    training = TINY["experiments"]["tiny"]["training"] | {"learning_rate": 2e-3}
    run(tmp_path, "second", training=training)
    assert "runs: 2 done, 0 there already" in capsys.readouterr().out


def test_a_record_without_its_predictions_is_not(tmp_path, capsys):
    run(tmp_path, "first")
    (tmp_path / "results/first/runs/tiny--lora--s0.parquet").unlink()
    capsys.readouterr()
    run(tmp_path, "second")
    assert "runs: 1 done, 1 there already" in capsys.readouterr().out
