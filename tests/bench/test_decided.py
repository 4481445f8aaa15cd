"""Runs until claims are decided, judged by the report's own statistics."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
import yaml

from rankbench.bench.cli import judging, main
from rankbench.bench.records import RecordError
from rankbench.reports.claims.undecided import undecided
from rankbench.reports.frames import load
from rankbench.reports.study import Study
from tests.bench.tiny_suite import start, wait_for
from tests.reports.test_claims import claim

ENTRIES = {"lora": {"rank": 4}, "full": {}, "scalora": {"rank": 4}}
"""After 30 steps `full` is far below LoRA; ScaLoRA is now above it, now below."""


def write(folder: Path, most: int, **changes) -> str:
    experiment = {
        "task": "linear-regression",
        "model": "none",
        "targets": ["linear"],
        "training": {"steps": 30, "batch_size": 16, "learning_rate": 1e-2},
        "adapters": ENTRIES,
    }
    seeds = {"from": 3, "to": most, "until": "decided"}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"seeds": seeds, "experiments": {"line": experiment | changes}}))
    return str(path)


def cells(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "mine/runs").glob("*.json"))


def expected(**seeds: int) -> list[str]:
    return sorted(f"line--{label}--s{seed}" for label, count in seeds.items() for seed in range(count))


def error_below_loras(name: str):
    method, against = ({"name": label, "adapter": label} for label in (name, "lora"))
    return claim(id=f"{name}-below-lora", method=method, against=against, measurement="error", unit="ratio")


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (["full", "scalora"], {"lora": 8, "full": 3, "scalora": 8}),
        (["full"], {"lora": 3, "full": 3, "scalora": 3}),
    ],
)
def test_a_pair_that_is_decided_stops_and_one_that_is_open_goes_to_the_cap(
    tmp_path, monkeypatch, names, counts
):
    claims = [error_below_loras(name) for name in names]

    def judged(folder, runs):
        return undecided(Study(load(folder, runs), claims=claims))

    monkeypatch.setattr(judging, "undecided", judged)
    assert main(["run", write(tmp_path, 8), "--results", str(tmp_path)]) == 0
    assert cells(tmp_path) == expected(**counts)


def test_where_all_runs_failed_nothing_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "undecided", judging._undecided)
    diverging = {"lora": {"rank": 4, "learning_rate": 1e30}, "full": {"learning_rate": 1e30}}
    path = write(tmp_path, 5, adapters=diverging)
    assert main(["run", path, "--results", str(tmp_path)]) == 1
    failed = sorted(path.stem for path in (tmp_path / "mine/failed").glob("*.json"))
    assert failed == expected(lora=3, full=3)


def test_a_method_that_no_claim_speaks_of_is_named_and_stops(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judging, "undecided", judging._undecided)
    path = write(tmp_path, 5, adapters=ENTRIES | {"mine": {"name": "scalora-nnls", "rank": 4}})
    assert main(["run", path, "--results", str(tmp_path)]) == 0
    assert "no claim speaks of line--mine: no further seeds of these" in capsys.readouterr().err
    assert [cell for cell in cells(tmp_path) if "--mine--" in cell] == expected(mine=3)
    assert "line--lora--s3" in cells(tmp_path)


@pytest.mark.slow
def test_two_at_once_one_of_which_is_killed_do_what_one_does_alone(tmp_path, monkeypatch, capsys):
    path, shared = write(tmp_path, 5), tmp_path / "shared"
    other = start(path, shared)
    wait_for(shared / "mine/runs/line--lora--s0.json")

    def kill():
        wait_for(shared / "mine/runs/line--lora--s3.json")
        other.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert main(["run", path, "--results", str(shared)]) == 0
    killer.join()
    told = [other.communicate()[1], capsys.readouterr().err]
    lines = [line for text in told for line in text.splitlines() if ": mse " in line]
    done = [line.split(": ")[0].split()[-1] for line in lines]
    assert len(done) == len(set(done))
    assert not (shared / "mine/checkpoints").exists()
    monkeypatch.setattr(judging, "undecided", judging._undecided)  # without another process
    assert main(["run", path, "--results", str(tmp_path / "alone")]) == 0
    assert cells(shared) == cells(tmp_path / "alone")
    assert "line--scalora--s3" in cells(shared), "something was open after the first stage"


@pytest.mark.slow
def test_what_cannot_be_judged_is_said_where_it_was_to_be_known(tmp_path):
    path = write(tmp_path, 5)
    assert main(["run", path, "--results", str(tmp_path), "--seeds", "3"]) == 0
    assert ("line", "lora") in judging.undecided(tmp_path / "mine", cells(tmp_path))
    (tmp_path / "mine/runs/line--full--s1.json").write_text("{")
    with pytest.raises(RecordError, match=r"line--full--s1.json is corrupt") as caught:
        judging.undecided(tmp_path / "mine", cells(tmp_path))
    assert "_undecided" in caught.value.__notes__[0], "where in the code, of the other process"
