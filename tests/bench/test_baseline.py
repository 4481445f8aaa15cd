"""The baseline is what the suite says: in no fingerprint, in every record once the suite is named again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rankbench.bench.cli import main
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import ConfigError, load_suite, plan
from tests.bench.tiny_suite import TINY
from tests.made_records import overhead_record, run_record, save


def written(tmp_path: Path, **changes) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return str(path)


def baselines(folder: Path) -> dict[str, str]:
    return {path.stem: json.loads(path.read_text())["baseline"] for path in sorted(folder.glob("*/*.json"))}


def test_it_is_lora_where_nothing_is_said_even_where_there_is_no_lora(tmp_path):
    only = {"tiny": TINY["experiments"]["tiny"] | {"adapters": {"scalora": {"rank": 2}}}}
    specs = list(plan(load_suite(written(tmp_path, experiments=only))))
    assert [(spec.label, spec.baseline) for spec in specs] == [("scalora", "lora")]


def test_one_that_is_no_entry_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_suite(written(tmp_path, baseline="scalroa"))
    assert str(caught.value) == "mine.yaml: baseline: no entry is called 'scalroa'; did you mean 'scalora'?"


def test_an_entry_with_a_grid_and_one_that_is_only_measured_may_be_it(tmp_path):
    grid = {
        "tiny": TINY["experiments"]["tiny"]
        | {"adapters": {"mine": {"name": "lora", "grid": {"rank": [1, 2]}}}}
    }
    assert load_suite(written(tmp_path, experiments=grid, baseline="mine")).baseline == "mine"
    block = {"model": "tiny-bert", "targets": ["query"], "batch": 2, "length": 4}
    cost = {"cost": block | {"adapters": {"full": {}}}}
    assert load_suite(written(tmp_path, experiments={}, overhead=cost, baseline="full")).baseline == "full"


def test_no_number_depends_on_it(tmp_path):
    first = next(plan(load_suite(written(tmp_path))))
    other = next(plan(load_suite(written(tmp_path, baseline="scalora"))))
    assert resolve(first).identity == resolve(other).identity
    assert first.model_dump() == other.model_dump(), "nor is it in the record's configuration"


def test_it_follows_the_suite_without_another_training(tmp_path, capsys):
    results, folder = tmp_path / "results", tmp_path / "results/mine"
    assert main(["run", written(tmp_path), "--results", str(results)]) == 0
    assert set(baselines(folder).values()) == {"lora"}
    before = {path: json.loads(path.read_text()) for path in folder.glob("runs/*.json")}
    capsys.readouterr()
    assert main(["run", written(tmp_path, baseline="scalora"), "--results", str(results)]) == 0
    assert "runs: 0 done, 2 there already, 0 failed" in capsys.readouterr().out
    for path, record in before.items():
        assert json.loads(path.read_text()) == record | {"baseline": "scalora"}
    assert not (folder / "checkpoints").exists(), "no lock is left"


def test_a_report_by_the_suites_file_follows_it_and_one_by_the_folder_does_not(tmp_path):
    results, folder = tmp_path / "results", tmp_path / "results/mine"
    save(folder, run_record("movie", "lora", 0), run_record("movie", "scalora", 0))
    save(folder, overhead_record({"lora": [1.0, 2.0]}))
    suite = written(tmp_path, baseline="scalora")
    assert main(["report", str(folder)]) == 0
    assert set(baselines(folder).values()) == {"lora"}
    assert main(["report", suite, "--results", str(results)]) == 0
    assert len(baselines(folder)) == 3
    assert set(baselines(folder).values()) == {"scalora"}
