"""Runs as tasks of Slurm: by submitit's local executor, and by a queue that is made of scripts."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rankbench.bench.backends.driver import Options, Outcome, execute
from rankbench.bench.backends.seam import Backend, here
from rankbench.bench.backends.standing import version_of
from rankbench.bench.records import FailureRecord, Folders, RecordError, read_record, read_runs
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Listener, Order
from rankbench.bench.suite import ConfigError, load_suite, plan
from rankbench.bench.suite.slurm import Slurm
from tests.bench.tiny_suite import TINY, numbers, wait_until, with_changes

submitit = pytest.importorskip("submitit", reason="needs rankbench[slurm]")
slurm_backend = pytest.importorskip("rankbench.bench.backends.slurm")
slurm, arrays = slurm_backend.slurm, slurm_backend.Arrays
Task = pytest.importorskip("rankbench.bench.backends.slurm.task").Task

SBATCH = """
n=$(( $(ls {log}/*.sh 2>/dev/null | wc -l) + 1 ))
cp "$1" {log}/$n.sh
sed -n 's/^#SBATCH --error=//p' "$1" | sed "s/%j/$n/" | xargs -I FILE sh -c 'echo Killed > FILE'
echo "Submitted batch job $n"
"""
"""Takes every array, and starts no task: each is said to have died at once."""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts Slurm's commands in the way, each a script; what sbatch is sent is kept in the returned folder."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    log.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_backend, "POLL_SECONDS", 0.3)
    monkeypatch.setattr(slurm_backend, "GONE_SECONDS", 0.0)
    monkeypatch.setattr(slurm_backend, "STOPPING_SECONDS", 0.3)

    def write(**scripts: str) -> Path:
        known = {"sbatch": SBATCH, "srun": "", "squeue": "", "scancel": "", "sacct": ""}
        for name, script in (known | scripts).items():
            (folder / name).write_text("#!/bin/sh\n" + script.replace("{log}", str(log)))
            (folder / name).chmod(0o755)
        return log

    return write


@pytest.fixture
def local(commands: Callable[..., Path]) -> None:
    """A queue of this machine's processes, by which submitit's local executor names its tasks."""
    alive = "ps -eo pid=,stat= | awk '$2 !~ /Z/ {print $1}'"
    commands(squeue=alive, scancel='case "$*" in *TERM*) shift 2; kill -TERM "$@";; esac')


@pytest.fixture
def orders(suite: Path, tmp_path: Path) -> list[Order]:
    specs = plan(load_suite(str(suite)))
    return [Order(resolve(spec), Folders(tmp_path / "results").checkpoint(spec.cell)) for spec in specs]


@pytest.fixture
def executed(suite: Path) -> Callable[..., Outcome]:
    """Executes the suite with other settings of its experiment, in Slurm's tasks unless said otherwise."""

    def execute_it(
        folder: Path, backend: Backend | None = None, *, settings: Slurm | None = None, **changes: Any
    ) -> Outcome:
        stopped, options = changes.pop("stopped", lambda: False), Options(checkpoint_seconds=0.1)
        executor = changes.pop("executor", submitit.SlurmExecutor)
        suite.write_text(yaml.safe_dump(with_changes(**changes)))
        loaded = load_suite(str(suite))
        backend = backend or slurm(folder / "slurm", settings or PATIENT, executor)
        return execute(loaded, list(plan(loaded)), Folders(folder), stopped, options, backend)

    return execute_it


def hit(state: Path, note: Path, *signals: signal.Signals) -> threading.Thread:
    """Sends a run's task these signals: each as soon as it, started anew after the one before, has saved its
    state."""

    def task_other_than(before: list[psutil.Process]) -> list[psutil.Process]:
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            task = yaml.safe_load(note.read_text())["task"]
            return [one for one in psutil.Process(int(task)).children() if one not in before]
        return []

    def saved_since(before: tuple[int, int] | None) -> bool:
        return version_of(state) not in (None, before)

    def send() -> None:
        task: list[psutil.Process] = []
        for number in signals:
            last = task
            wait_until(partial(task_other_than, last), "a task")
            task = task_other_than(last)
            wait_until(partial(saved_since, version_of(state)), "a new state")
            task[0].send_signal(number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


PATIENT = Slurm(signal_delay=1)
"""submitit's local executor ends a task after two minutes, whatever it asks for; with the usual delay the
signal would come after half a minute, in which a busy machine has hardly started one."""


@pytest.mark.slow
def test_a_run_goes_on_after_a_dead_driver_a_stop_a_preemption_and_a_killed_task(
    local, suite, executed, tmp_path, capsys
):
    """Its numbers are as if nothing had happened."""

    class Closed(submitit.LocalExecutor):
        def submit_array(self, fns: Any) -> Any:
            raise AssertionError("submitted twice")

    training = {"steps": 150, "batch_size": 4, "learning_rate": 1e-3}
    one = {"adapters": {"lora": {"rank": 2}}, "training": training}
    folder, whole = tmp_path / "hit/mine", tmp_path / "whole/mine"
    assert executed(whole, here, **one) == Outcome(finished=1)
    (spec,) = plan(load_suite(str(suite)))
    order = Order(resolve(spec), Folders(folder).checkpoint(spec.cell), 0.1)
    state, note = order.checkpoint, folder / f"slurm/{spec.cell}.json"

    arrays(folder / "slurm", PATIENT, submitit.LocalExecutor).send([order])  # by a driver that dies here
    assert executed(folder, stopped=state.exists, executor=Closed, **one).interrupted
    assert [path for path in folder.rglob("*") if path.is_file()] == [state]

    thread = hit(state, note, signal.SIGUSR2, signal.SIGKILL)
    read = slurm(folder / "slurm", PATIENT, submitit.LocalExecutor)(iter([order]), lambda _: Listener())
    next(read)
    read.close()  # as one that dies before it has written
    thread.join()
    told = capsys.readouterr().err
    assert told.count(f"{spec.cell}: its worker ended (Slurm task") == 1, "preempted, it is queued by itself"
    assert executed(folder, executor=Closed, **one) == Outcome(finished=1)
    (disturbed,), (undisturbed,) = read_runs(folder), read_runs(whole)
    assert disturbed.timings.legs == 4
    assert numbers(disturbed) == numbers(undisturbed)
    assert [path.name for path in folder.iterdir()] == ["runs"], "no pickle, no log, no state is left"


def test_a_node_of_another_kind_than_the_run_was_planned_for_refuses_it(orders):
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        orders[0].job.identity["device"] = "abacus"
        refused = Task(orders[0], threads=1)()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert refused.kind == "refused"
    assert "device abacus ->" in refused.reason


def lines(script: Path) -> set[str]:
    return set(script.read_text().splitlines())


def test_what_reaches_sbatch(commands, orders, tmp_path):
    log = commands()
    settings = Slurm(
        partition="gpu", account="me", time=30, gpus=2, array_parallelism=1, signal_delay=120,
        setup=["module load cuda"], sbatch={"qos": "long"},
    )  # fmt: skip
    sent = arrays(tmp_path / "slurm", settings, submitit.SlurmExecutor).send(orders)
    assert [one.task.job_id for one in sent] == ["1_0", "1_1"]
    written = lines(log / "1.sh")
    options = {
        "array=0-1%1", "partition=gpu", "account=me", "time=30", "gpus-per-node=2", "signal=USR2@120",
        "qos=long", "cpus-per-task=1", "job-name=rankbench-mine",
    }  # fmt: skip
    assert {f"#SBATCH --{option}" for option in options} <= written
    assert {"#SBATCH --requeue", "module load cuda"} <= written
    memory = next(line for line in written if line.startswith("#SBATCH --mem="))
    assert 1536 <= int(memory.removeprefix("#SBATCH --mem=").removesuffix("M")) < 2048


def test_runs_that_need_other_numbers_of_gpus_are_arrays_of_their_own(commands, orders, tmp_path):
    log, one, two = commands(), *orders
    training = two.job.spec.training.model_copy(update={"processes": 2, "accumulation": 2})
    job = resolve(two.job.spec.model_copy(update={"training": training}))
    both = [Order(resolve(one.job.spec), one.checkpoint), Order(job, two.checkpoint)]
    for order in both:
        order.job.identity["device"] = "cuda"
    arrays(tmp_path / "slurm", Slurm(), submitit.SlurmExecutor).send(both)
    asked = [[line for line in lines(log / name) if "gpus" in line] for name in ("1.sh", "2.sh")]
    assert asked == [["#SBATCH --gpus-per-node=1"], ["#SBATCH --gpus-per-node=2"]]


def test_an_array_that_slurm_refuses_is_one_line_and_leaves_nothing(commands, executed, tmp_path, capsys):
    commands(sbatch="echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    with pytest.raises(ConfigError, match="invalid partition specified: gpu"):
        executed(tmp_path / "results/mine")
    assert "sbatch" not in capsys.readouterr().err, "said once, by whom the error reaches"
    assert not list((tmp_path / "results").rglob("*.*"))


@pytest.mark.parametrize(
    ("state", "kind", "words", "times"),
    [
        ("OUT_OF_MEMORY", "memory", "--slurm memory=GIB", 3),
        ("NODE_FAIL", "environment", "leave the node out", 3),
        ("FAILED", "environment", "as traceback", 3),
        ("CANCELLED by 1000", "environment", "the same command tries again", 1),
    ],
)
def test_a_run_whose_task_dies_again_and_again_has_failed(
    state, kind, words, times, commands, executed, tmp_path
):
    log, folder = commands(sacct=f"echo {state}"), tmp_path / "results/mine"
    assert executed(folder, adapters={"lora": {"rank": 2}}) == Outcome(failed=1)
    failed = read_record(folder / "failed/tiny--lora--s0.json", FailureRecord)
    assert (failed.kind, failed.traceback) == (kind, "Killed")
    assert words in failed.reason
    assert state.split()[0].lower() in failed.reason.lower()
    assert failed.provenance == {"slurm_task": str(times)}
    assert len(list(log.glob("*.sh"))) == times
    assert not (folder / "slurm").exists()


def test_tasks_that_cannot_be_noted_are_ended(commands, orders, tmp_path):
    log = commands(scancel='echo "$*" >> {log}/scancel')
    folder = tmp_path / "slurm"
    (folder / "tiny--scalora--s0.json").mkdir(parents=True)
    with pytest.raises(RecordError, match="cannot write"):
        arrays(folder, Slurm(), submitit.SlurmExecutor).send(orders)
    assert "--state=PENDING 1_0 1_1" in (log / "scancel").read_text()


def test_more_runs_than_an_array_holds_are_arrays_one_after_the_other(commands, executed, tmp_path):
    log = commands(sacct="echo CANCELLED")
    settings = Slurm(array_size=2)
    adapters = {"lora": {"rank": 2}, "scalora": {"rank": 2}, "rslora": {"rank": 2}}
    assert executed(tmp_path / "mine", settings=settings, adapters=adapters) == Outcome(failed=3)
    assert "#SBATCH --array=0-1%2" in lines(log / "1.sh")
    assert not any("--array" in line for line in lines(log / "2.sh")), "one is left"


def test_a_stop_takes_what_waits_from_the_queue_and_asks_what_runs_to_save(commands, orders, tmp_path):
    queue = "test -e {log}/scancel || echo 1_0 1_1"
    log = commands(squeue=queue, scancel='echo "$*" >> {log}/scancel')
    backend = slurm(tmp_path / "slurm", Slurm(), submitit.SlurmExecutor)
    with pytest.raises(Interrupted):
        list(backend(iter(orders), lambda _: Listener(stopped=lambda: True)))
    asked = (log / "scancel").read_text().splitlines()
    assert asked == ["--state=PENDING 1_0 1_1", "--state=RUNNING --signal=TERM 1_0 1_1"]
    assert not (tmp_path / "slurm").exists()


def test_a_task_of_what_a_run_was_before_is_ended_and_the_run_submitted(commands, orders, tmp_path):
    log = commands(scancel='echo "$*" >> {log}/scancel')
    mine = arrays(tmp_path / "slurm", Slurm(), submitit.SlurmExecutor)
    mine.send(orders[:1])
    assert mine.find(orders[0]) is not None
    changed = orders[0].job.spec.model_copy(update={"seed": 7})
    note = tmp_path / "slurm/tiny--lora--s7.json"
    (tmp_path / "slurm/tiny--lora--s0.json").rename(note)
    assert mine.find(Order(resolve(changed), orders[0].checkpoint)) is None
    assert "--state=PENDING 1" in (log / "scancel").read_text().splitlines()
    assert not note.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", "slurm"], "no sbatch on this machine"),
        (["--backend", "slurm", "--workers", "2"], "say --slurm array_parallelism=N"),
        (["--slurm", "time=3"], "--slurm goes with --backend slurm"),
        (["--backend", "slurm", "--results", "memory://x"], "a folder that all nodes share, not a URL"),
    ],
)
def test_what_cannot_be_is_one_line(words, message, run, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(*words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("backend", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_without_its_package_a_backend_is_one_line(backend, package, run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(f"rankbench.bench.backends.{backend}")]:
        monkeypatch.delitem(sys.modules, name)
    assert run("--backend", backend) == 2
    told = capsys.readouterr().err
    assert f"needs {package}: pip install 'rankbench[{backend}]'" in told
    assert len(told.splitlines()) == 1


def test_the_command_line_reaches_sbatch(commands, run, tmp_path):
    log = commands(sacct="echo CANCELLED")
    words = ["--slurm", "time=7", "--slurm", "partition=gpu", "--slurm", "gpus=1", "--threads", "3"]
    assert run("--backend", "slurm", *words) == 1
    asked = {"partition=gpu", "time=7", "gpus-per-node=1", "cpus-per-task=3"}
    assert {f"#SBATCH --{option}" for option in asked} <= lines(log / "1.sh")
    failed = read_record(tmp_path / "results/mine/failed/tiny--lora--s0.json", FailureRecord)
    assert failed.identity["device"] == "cuda", "as on the nodes, whatever this machine has"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"partitoin": "gpu"}, "slurm: unknown key 'partitoin'; did you mean 'partition'?"),
        ({"time": 0}, "slurm.time: Input should be greater than 0"),
        (
            {"time": 3},
            "slurm: time: with a signal_delay of 90 s, 3 minutes may be over before a run has begun; "
            "ask for 4 or more",
        ),
        ({"setup": "module load cuda"}, "slurm.setup: Input should be a valid list"),
    ],
)
def test_a_mistake_in_the_block_is_one_line(block, message, suite):
    suite.write_text(yaml.safe_dump(TINY | {"slurm": block}))
    with pytest.raises(ConfigError) as error:
        load_suite(str(suite))
    assert str(error.value) == f"mine.yaml: {message}"


def test_the_command_line_changes_the_block(suite):
    suite.write_text(yaml.safe_dump(TINY | {"slurm": {"partition": "cpu", "time": 10}}))
    words = ["partition=gpu", "sbatch={qos: long}", "gpus=1"]
    changed = load_suite(str(suite)).slurm.changed_by(words)
    assert changed == Slurm(partition="gpu", time=10, gpus=1, sbatch={"qos": "long"})


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("gpu", "--slurm 'gpu': write KEY=VALUE"),
        ("timee=3", "--slurm: unknown key 'timee'; did you mean 'time'?"),
        ("time=1:30:00", "--slurm: time: "),
        ("setup=[", "the value is not YAML"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(word, message):
    with pytest.raises(ConfigError) as error:
        Slurm().changed_by([word])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_the_block_is_in_no_identity(suite):
    before = [resolve(spec).fingerprint for spec in plan(load_suite(str(suite)))]
    suite.write_text(yaml.safe_dump(TINY | {"slurm": {"partition": "gpu", "gpus": 4}}))
    assert [resolve(spec).fingerprint for spec in plan(load_suite(str(suite)))] == before
