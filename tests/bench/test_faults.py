"""Workers and drivers that are killed or stopped: no run is lost, none is done twice, and the numbers are
those of a run that nobody disturbed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rankbench.bench.backends import lost
from rankbench.bench.backends.driver import Outcome, execute
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


def legs(folder: Path) -> dict[str, int]:
    return {record.adapter: record.timings.legs for record in read_runs(folder)}


def workers_of_this_process() -> list[psutil.Process]:
    return [worker for nursery in nurseries() for worker in nursery.children()]


def nurseries() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())]


def wait_for_another(path: Path, than: tuple[int, int] | None) -> None:
    wait_until(lambda: version_of(path) not in (None, than), f"another {path}")


def kill_one_and_stop_all(checkpoints: list[Path]) -> Path:
    """One of two workers is killed; when another has gone on with its run, Ctrl-C reaches the driver and its
    workers, as from a terminal. The state of which run it was."""
    wait_until(lambda: all(path.exists() for path in checkpoints), "the first state of each")
    other, victim = workers_of_this_process()
    other.suspend()  # its run is not to be over before
    victim.kill()
    wait_until(lambda: other.status() == psutil.STATUS_STOPPED, "a worker at rest")
    before = [version_of(path) for path in checkpoints]
    wait_until(lambda: [version_of(path) for path in checkpoints] != before, "a state of the next worker")
    (hit,) = (path for path, one in zip(checkpoints, before, strict=True) if version_of(path) != one)
    os.utime(hit, (0, 0))  # of another century, so that saving it again is seen
    everyone = [psutil.Process(), *workers_of_this_process()]
    assert len(everyone) == 3
    other.resume()
    for process in everyone:
        process.send_signal(signal.SIGINT)
    return hit


def test_killed_workers_ctrl_c_and_a_killed_driver_cost_no_more_than_steps_since_a_checkpoint(
    longer, undisturbed, tmp_path, monkeypatch, capsys
):
    """Each leaves what the same command goes on with, files of another century too."""
    folder = tmp_path / "mine"
    checkpoints = [folder / f"checkpoints/tiny--{name}--s0.pt" for name in ("lora", "scalora")]
    command = ["run", str(longer), "--results", str(tmp_path), "--threads", "1"]
    with ThreadPoolExecutor() as pool:
        hit = pool.submit(kill_one_and_stop_all, checkpoints)
        assert main([*command, "--workers", "2", "--checkpoint-every", "0.1"]) == 130
    assert nurseries() == []
    error = capsys.readouterr().err
    assert error.count("was ended by SIGKILL; another goes on with it") == 1
    assert f"{hit.result().stem}: its worker was ended" in error
    assert "stopping after this step" in error
    assert "nothing is lost" in error
    assert "Traceback" not in error
    assert sorted((folder / "checkpoints").iterdir()) == checkpoints, "no lock is held"
    assert all(path.stat().st_mtime > 0 for path in checkpoints), "saved"

    monkeypatch.setattr(lost, "DEATHS", 1)

    def kill_all() -> bool:
        for worker in multiprocessing.active_children():
            worker.kill()
        return False

    loaded = load_suite(str(longer))
    lora = list(plan(loaded, only="*--lora--*"))
    assert execute(loaded, lora, Folders(folder), kill_all, None, workers(1, threads=1)) == Outcome(failed=1)
    record = read_record(folder / "failed/tiny--lora--s0.json", FailureRecord)
    assert record.kind == "memory"
    assert "SIGKILL" in record.reason
    assert record.provenance["threads"] == 1
    assert checkpoints[0].exists()

    for path in checkpoints:
        os.utime(path, (0, 0))
    before = version_of(checkpoints[0])
    words = "--only", "*--lora--*", "--backend", "workers", "--workers", "1", "--threads", "1"
    killed = start(str(longer), tmp_path, *words, start_new_session=True)
    wait_for_another(checkpoints[0], before)
    others = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.communicate()
    assert psutil.wait_procs(others, timeout=20)[1] == []
    for path in checkpoints:
        with claim(path.with_suffix(".lock")) as free:
            assert free

    assert main([*command, "--workers", "1"]) == 0
    assert told(folder) == undisturbed
    assert legs(folder) == {
        "lora": 3 + (hit.result() == checkpoints[0]),
        "scalora": 2 + (hit.result() == checkpoints[1]),
    }
    assert not (folder / "checkpoints").exists()
    assert not list(folder.glob("failed/*"))


def test_workers_outlive_the_process_that_they_were_forked_from(longer, undisturbed, tmp_path):
    folder = tmp_path / "mine"

    def kill_nursery() -> None:
        wait_until(lambda: len(list(folder.glob("checkpoints/*.pt"))) == 2, "the first state of each")
        (nursery,) = nurseries()
        nursery.kill()

    command = ["run", str(longer), "--results", str(tmp_path), "--checkpoint-every", "0.1"]
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_nursery)
        assert main([*command, "--threads", "1", "--workers", "2"]) == 0
    killed.result()
    assert told(folder) == undisturbed
    assert legs(folder) == {"lora": 1, "scalora": 1}
