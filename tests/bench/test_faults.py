"""Workers and drivers that are killed or stopped: no run is lost, none is done twice, and the numbers are
those of a run that nobody disturbed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rankbench.bench.backends import lost
from rankbench.bench.backends.driver import Options, Outcome, execute
from rankbench.bench.backends.standing import version_of
from rankbench.bench.backends.workers import workers
from rankbench.bench.cli import main
from rankbench.bench.records import FailureRecord, Folders, read_record, read_runs
from rankbench.bench.records.files import claim
from rankbench.bench.suite import load_suite, plan
from tests.bench.tiny_suite import numbers, start, wait_until, with_changes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def longer(tmp_path_factory) -> Path:
    """Two runs of a few seconds."""
    path = tmp_path_factory.mktemp("suite") / "mine.yaml"
    training = {"steps": 400, "batch_size": 4, "learning_rate": 1e-3}
    path.write_text(yaml.safe_dump(with_changes(training=training)))
    return path


@pytest.fixture(scope="module")
def undisturbed(longer, tmp_path_factory) -> dict[str, dict[str, Any]]:
    results = tmp_path_factory.mktemp("undisturbed")
    assert main(["run", str(longer), "--results", str(results)]) == 0
    return told(results / "mine")


def told(folder: Path) -> dict[str, dict[str, Any]]:
    """Adapter -> numbers of its one record."""
    return {record.adapter: numbers(record) for record in read_runs(folder)}


def legs(folder: Path) -> list[int]:
    return sorted(record.timings.legs for record in read_runs(folder))


def executed(suite: Path, folder: Path, count: int, disturb: Callable[[], None], only: str = "*") -> Outcome:
    """By workers of one thread; `disturb` is called again and again meanwhile."""

    def stopped() -> bool:
        disturb()
        return False

    loaded, options = load_suite(str(suite)), Options(checkpoint_seconds=0.1)
    specs = list(plan(loaded, only=only))
    return execute(loaded, specs, Folders(folder), stopped, options, workers(count, threads=1))


def test_a_killed_worker_costs_the_steps_since_its_checkpoint(longer, undisturbed, tmp_path, capsys):
    folder, killed = tmp_path / "mine", []

    def disturb() -> None:
        if not killed and len(list(folder.glob("checkpoints/*.pt"))) == 2:
            killed.append(multiprocessing.active_children()[0])
            killed[0].kill()

    assert executed(longer, folder, 2, disturb) == Outcome(finished=2)
    assert capsys.readouterr().err.count("was ended by SIGKILL; another goes on with it") == len(killed) == 1
    assert told(folder) == undisturbed
    assert legs(folder) == [1, 2], "the other one did not notice"
    assert not (folder / "checkpoints").exists()


def test_a_run_whose_workers_die_has_failed_and_goes_on_at_the_next_call(
    longer, undisturbed, tmp_path, monkeypatch
):
    folder = tmp_path / "mine"
    checkpoint = folder / "checkpoints/tiny--lora--s0.pt"
    monkeypatch.setattr(lost, "DEATHS", 1)

    def disturb() -> None:
        if checkpoint.exists():
            for worker in multiprocessing.active_children():
                worker.kill()

    assert executed(longer, folder, 1, disturb, only="*--lora--*") == Outcome(failed=1)
    record = read_record(folder / "failed/tiny--lora--s0.json", FailureRecord)
    assert record.kind == "memory"
    assert "SIGKILL" in record.reason
    assert record.provenance["threads"] == 1
    assert checkpoint.exists()
    assert main(["run", str(longer), "--results", str(tmp_path), "--only", "*--lora--*"]) == 0
    assert told(folder) == {"lora": undisturbed["lora"]}
    assert legs(folder) == [2]
    assert not list(folder.glob("failed/*"))


def test_ctrl_c_and_then_a_killed_driver_leave_what_the_same_command_goes_on_with(
    longer, undisturbed, tmp_path
):
    """Ctrl-C reaches the driver and its workers, as from a terminal. Files may be of another century."""
    folder = tmp_path / "mine"
    checkpoints = [folder / f"checkpoints/tiny--{name}--s0.pt" for name in ("lora", "scalora")]
    stopped = _under_way(longer, tmp_path, checkpoints)
    before = [version_of(path) for path in checkpoints]
    os.killpg(stopped.pid, signal.SIGINT)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert "stopping after this step" in error
    assert "nothing is lost" in error
    assert "Traceback" not in error
    assert sorted((folder / "checkpoints").iterdir()) == checkpoints, "no lock is held"
    assert all(version_of(path) != one for path, one in zip(checkpoints, before, strict=True)), "saved"

    for path in checkpoints:
        os.utime(path, (0, 0))
    killed = _under_way(longer, tmp_path, checkpoints)
    others = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.communicate()
    assert psutil.wait_procs(others, timeout=20)[1] == []
    for path in checkpoints:
        with claim(path.with_suffix(".lock")) as free:
            assert free
    assert main(["run", str(longer), "--results", str(tmp_path)]) == 0
    assert told(folder) == undisturbed
    assert legs(folder) == [3, 3]


def _under_way(suite: Path, results: Path, checkpoints: list[Path]) -> subprocess.Popen:
    """The command with two workers, which have both saved a state since it was started."""
    before = [version_of(path) for path in checkpoints]
    process = start(str(suite), results, "--workers", "2", "--threads", "1", start_new_session=True)
    for path, one in zip(checkpoints, before, strict=True):
        wait_until(lambda path=path, one=one: version_of(path) not in (None, one), f"another {path}")
    return process
