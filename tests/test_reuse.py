"""A suite takes over what another one beside it has done, and nothing that differs."""

from __future__ import annotations

import json

import yaml

from bench.cli import main
from tests.test_cli import TINY


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
    assert "1 runs done, 1 were there already" in seen.out
    assert "taken over from first" in seen.err
    taken, own = second["tiny--lora--s0"], first["tiny--lora--s0"]
    assert taken["suite"] == taken["config"]["suite"] == "second"
    own["suite"] = own["config"]["suite"] = "second"
    assert taken == own, "timings and provenance stay"
    runs = tmp_path / "results"
    assert (runs / "second/runs/tiny--lora--s0.parquet").read_bytes() == (
        runs / "first/runs/tiny--lora--s0.parquet"
    ).read_bytes()


def test_another_configuration_under_the_same_name_is_not(tmp_path, capsys):
    run(tmp_path, "first")
    capsys.readouterr()
    training = TINY["experiments"]["tiny"]["training"] | {"learning_rate": 2e-3}
    run(tmp_path, "second", training=training)
    assert "2 runs done, 0 were there already" in capsys.readouterr().out


def test_a_record_without_its_predictions_is_not(tmp_path, capsys):
    run(tmp_path, "first")
    (tmp_path / "results/first/runs/tiny--lora--s0.parquet").unlink()
    capsys.readouterr()
    run(tmp_path, "second")
    assert "1 runs done, 1 were there already" in capsys.readouterr().out
