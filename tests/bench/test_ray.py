"""A real Ray cluster of three nodes on this machine, one of which is lost on the way.

One cluster is there at a time, whoever else runs these tests beside this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from filelock import FileLock

from rankbench.bench.backends.driver import Options, Outcome, execute
from rankbench.bench.backends.seam import Backend, here
from rankbench.bench.cli import main
from rankbench.bench.console import Progress
from rankbench.bench.records import FailureRecord, Folders, RunRecord, read_record, read_runs
from rankbench.bench.run.failures import Failure
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Listener, Order
from rankbench.bench.suite import ConfigError, load_suite, plan
from tests.bench.own_method import write, write_method
from tests.bench.test_backends import numbers
from tests.bench.tiny_suite import wait_for, with_changes

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'rankbench[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402

from rankbench.bench.backends.ray import tasks  # noqa: E402
from rankbench.bench.backends.ray.cluster import ray_cluster  # noqa: E402

pytestmark = pytest.mark.slow

SETTINGS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
    "idle_worker_killing_time_threshold_ms": 60_000,
    "worker_niceness": 0,
}
"""A dead node is seen sooner than in Ray's half a minute; a worker that has imported all waits for a test. By
Ray's own niceness of 15 it has a thirtieth of a core beside other tests: one here took ten minutes."""


def test_no_cluster_there_is_told_in_one_line(suite, capsys):
    ray.shutdown()
    assert main(["run", str(suite), "--backend", "ray", "--address", "127.0.0.1:1"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith("rankbench: no Ray cluster at 127.0.0.1:1")


def test_each_process_of_a_run_has_the_threads_that_cores_were_asked_for(suite, tmp_path, monkeypatch):
    """A task has as many as it has cores, and `ranks` gives each of its processes its part."""
    given: list[tuple[Any, ...]] = []
    submitted = SimpleNamespace(remote=lambda *told: given.append(told))
    function = SimpleNamespace(options=lambda **_: submitted)
    monkeypatch.setattr(
        tasks.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0, "memory": 1e15}}]
    )
    monkeypatch.setattr(tasks.ray, "remote", lambda **asked: lambda _: given.append(asked) or function)
    spec = next(plan(load_suite(str(suite))))
    training = spec.training.model_copy(update={"processes": 2, "accumulation": 2})
    order = Order(resolve(spec.model_copy(update={"training": training})), tmp_path / "run.pt")
    tasks.Tasks(lambda _: Listener(), threads=3, _board=object()).begin(order)
    asked, (_, _, _, threads, *_) = given
    assert asked["num_cpus"] == threads == 2 * 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        node = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
        made = Cluster(True, head_node_args={**node, "include_dashboard": False, "_system_config": SETTINGS})
        for _ in range(2):
            made.add_node(**node)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs that last a second or two."""
    path = tmp_path_factory.mktemp("suite") / "mine.yaml"
    training = {"steps": 600, "batch_size": 8, "learning_rate": 1e-3, "observe": 1}
    path.write_text(yaml.safe_dump(with_changes(training=training) | {"seeds": [0, 1]}))
    return path


@pytest.fixture(scope="module")
def executed(path: Path) -> Callable[..., Outcome]:
    def execute_it(
        folder: Path,
        backend: Backend,
        stopped: Callable[[], bool] = lambda: False,
        only: str = "*",
        device: str | None = None,
        every: float = 0.1,
    ) -> Outcome:
        suite, options = load_suite(str(path)), Options(checkpoint_seconds=every, device=device)
        return execute(suite, list(plan(suite, only=only)), Folders(folder), stopped, options, backend)

    return execute_it


@pytest.fixture(scope="module")
def serial(executed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the runs give one after the other in this process."""
    folder = tmp_path_factory.mktemp("serial") / "mine"
    assert executed(folder, here) == Outcome(finished=4)
    return results(folder)


def results(folder: Path) -> dict[str, Any]:
    """By file: numbers and predictions."""
    return {
        f"{record.adapter}--s{record.seed}": (
            numbers(record),
            (folder / "runs" / str(record.predictions)).read_bytes(),
        )
        for record in read_runs(folder)
    }


def record(folder: Path, run: str) -> RunRecord:
    (found,) = (one for one in read_runs(folder) if run == f"{one.adapter}--s{one.seed}")
    return found


def runs_on(node: Any) -> dict[str, psutil.Process]:
    """Tasks are called as their runs are, and their processes as they are."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found = {}
    for child in raylet.children():
        with suppress(psutil.NoSuchProcess):  # it ends meanwhile
            name = " ".join(child.cmdline()).strip()
            if name.startswith("ray::tiny--"):
                found[name[5:]] = child
    return found


def test_the_runs_of_a_lost_node_go_on_elsewhere(cluster, executed, serial, tmp_path):
    folder, lost = tmp_path / "mine", []

    def lose_one() -> bool:
        if not lost:
            for node in cluster.list_all_nodes()[1:]:
                if cells := [cell for cell in runs_on(node) if Folders(folder).checkpoint(cell).exists()]:
                    lost.extend(cells)
                    cluster.remove_node(node, allow_graceful=False)
                    break
        return False

    assert executed(folder, ray_cluster(cluster.address), lose_one) == Outcome(finished=4)
    assert results(folder) == serial
    (cell,) = lost
    assert record(folder, cell.removeprefix("tiny--")).timings.legs == 2
    assert not (folder / "checkpoints").exists(), "no lock, no state"
    assert not (folder / "failed").exists()


def test_a_stop_saves_what_is_under_way_and_the_next_time_goes_on(cluster, executed, serial, tmp_path):
    folder, backend = tmp_path / "mine", ray_cluster(cluster.address)

    def stopped() -> bool:
        return any(folder.glob("checkpoints/*.pt"))

    assert executed(folder, backend, stopped, only="*--s1").interrupted
    assert stopped()
    assert not list(folder.rglob("*.lock"))
    assert not executed(folder, backend, only="*--s1").failed
    assert max(one.timings.legs for one in read_runs(folder)) == 2
    assert results(folder) == {run: found for run, found in serial.items() if run.endswith("s1")}


def test_a_worker_that_is_to_end_saves_its_state_first(cluster, executed, serial, tmp_path, monkeypatch):
    """As when a node is emptied. No checkpoint is due before."""
    folder, ticks = tmp_path / "mine", []
    monkeypatch.setattr(Progress, "tick", lambda *_, **__: ticks.append("a step is done"))

    def end_it() -> bool:
        if ticks and "it knows" not in ticks:
            (worker,) = (one for node in cluster.list_all_nodes() for one in runs_on(node).values())
            worker.terminate()
            ticks.append("it knows")
        return False

    backend = ray_cluster(cluster.address)
    assert executed(folder, backend, end_it, only="*--lora--s1", every=1e6) == Outcome(finished=1)
    assert record(folder, "lora--s1").timings.legs == 2
    assert results(folder) == {"lora--s1": serial["lora--s1"]}


def test_a_driver_that_died_is_gone_on_with_by_the_same_command(
    cluster, path, serial, tmp_path, monkeypatch, capsys
):
    """With results at a URL: its state was copied there by the node."""
    monkeypatch.setenv("RANKBENCH_CACHE", str(tmp_path / "cache"))
    ray_cluster(cluster.address)
    command = ["run", str(path), "--only", "*--lora--s0", "--results", f"file://{tmp_path}/there"]
    command += ["--backend", "ray", "--address", cluster.address, "--checkpoint-every", "0.1"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "rankbench.bench", *command],
        cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(tmp_path / "there/mine/checkpoints/tiny--lora--s0.pt")
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert main(command) == 0
    assert "runs: 1 done, 0 there already, 0 failed" in capsys.readouterr().out
    assert record(tmp_path / "there/mine", "lora--s0").timings.legs == 2
    assert results(tmp_path / "there/mine") == {"lora--s0": serial["lora--s0"]}
    files = [file.name for file in (tmp_path / "there").rglob("*") if file.is_file()]
    assert sorted(files) == ["tiny--lora--s0.json", "tiny--lora--s0.parquet"]


def test_a_node_with_other_code_is_refused(cluster, executed, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "code", lambda: "of another version")
    with pytest.raises(ConfigError, match="a node of the Ray cluster has another version of rankbench"):
        executed(tmp_path / "mine", ray_cluster(cluster.address))
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(("threads", "device", "asked"), [(2, "cpu", "CPU 2"), (1, "cuda", "GPU 1")])
def test_a_run_that_no_node_can_hold_is_refused(threads, device, asked, cluster, executed, tmp_path):
    backend = ray_cluster(cluster.address, threads)
    assert executed(tmp_path / "mine", backend, only="*--lora--s0", device=device) == Outcome(failed=1)
    reason = read_record(tmp_path / "mine/failed/tiny--lora--s0.json", FailureRecord).reason
    assert reason.startswith("no node of the Ray cluster is large enough for it")
    assert asked in reason


def test_a_process_that_has_used_a_gpu_does_no_other_run(cluster, path, monkeypatch):
    node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 * 1024**2)
    monkeypatch.setattr(tasks, "unpacked", lambda *_: os.getpid())
    ray_cluster(cluster.address)
    order = Order(resolve(next(plan(load_suite(str(path)))), "cuda"), Path("run.pt"))
    handed_out, processes = tasks.Tasks(lambda _: Listener(), threads=1), set()
    for _ in range(3):
        assert handed_out.begin(order) is None
        processes.add(ray.get(handed_out.under_way.popitem()[0]))
    cluster.remove_node(node)
    assert len(processes) == 3


def test_what_becomes_of_a_task_that_brings_nothing(cluster):
    @ray.remote(max_retries=0)
    def crash() -> None:
        os.abort()

    @ray.remote
    def unfit() -> None:
        raise ModuleNotFoundError("No module named 'rankbench'")

    ray_cluster(cluster.address)
    dead = tasks.result_of(crash.remote())
    assert isinstance(dead, Failure)
    assert dead.kind == "environment"
    assert "worker died" in dead.reason
    with pytest.raises(ConfigError, match="cannot do runs: ModuleNotFoundError: No module named 'rankbench'"):
        tasks.result_of(unfit.remote())


def test_a_node_needs_no_file_of_the_suites_own(cluster, tmp_path):
    method = write_method(tmp_path)
    suite = load_suite(str(write(tmp_path, plugins=["mine.py"], adapters={"mine": {"rank": 2}})))
    for path in tmp_path.glob("*.py"):
        path.unlink()
    outcome = execute(
        suite, list(plan(suite)), Folders(tmp_path / "mine"), lambda: False, Options(),
        ray_cluster(cluster.address),
    )  # fmt: skip
    assert outcome == Outcome(finished=1)
    (found,) = read_runs(tmp_path / "mine")
    assert set(found.identity["plugins"]) == {method.name, "beside.py"}
