"""Processes on one folder share the work, and what a dead one held is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from rankbench.bench.backends import driver, sharing
from rankbench.bench.cli import main
from rankbench.bench.cost import overhead
from rankbench.bench.records import RecordError, fingerprint, write_atomically, write_record
from rankbench.bench.records.files import check_writable, claim, remove
from rankbench.bench.run import provenance
from tests.bench.tiny_suite import TINY, start, wait_for
from tests.made_records import overhead_record

ROOT = Path(__file__).parents[2]


def test_a_claim_is_held_by_one_and_leaves_nothing(tmp_path):
    path = tmp_path / "checkpoints" / "run.lock"
    with claim(path) as first, claim(path) as second:
        assert (first, second) == (True, False)
    with claim(path) as again:
        assert again
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "run.lock"
    script = "from rankbench.bench.records.files import claim; from pathlib import Path; import sys\n"
    script += "with claim(Path(sys.argv[1])):\n  print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout.readline() == b"1\n"
    with claim(path) as free:
        assert not free
    holder.kill()
    holder.communicate()
    with claim(path) as free:
        assert free


def test_of_many_that_want_it_at_once_one_has_it(tmp_path):
    """The file is removed by each holder: nobody may hold what is no longer there."""
    path, inside, most = tmp_path / "locks" / "run.lock", [], []

    def work():
        done = 0
        while done < 30:
            with claim(path) as mine:
                if mine:
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.0002)
                    inside.pop()
                    done += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 120
    assert max(most) == 1


def test_whether_a_folder_can_be_written_is_found_without_making_it(tmp_path):
    check_writable(tmp_path / "a" / "b c")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="another folder"):
        check_writable(tmp_path / "file" / "suite")


def test_a_folder_that_another_removes_meanwhile_can_be_written(tmp_path):
    """As often as it is empty, it goes with the last lock: here thousands of times."""
    folder, done = tmp_path / "checkpoints", threading.Event()

    def come_and_go():
        while not done.is_set():
            with claim(folder / "run.lock"):
                pass

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(3000):
            check_writable(folder)
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize("kind", ["runs", "failed", "checkpoints", "overhead"])
def test_a_folder_that_cannot_hold_one_kind_of_file_is_found_before_any_run(kind, suite, tmp_path, capsys):
    (tmp_path / "results/mine").mkdir(parents=True)
    (tmp_path / "results/mine" / kind).write_text("no folder")
    assert main(["run", str(suite), "--results", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rankbench: cannot write")
    assert len(error.splitlines()) == 1


def test_what_a_killed_writer_left_goes_with_the_file(tmp_path):
    write_atomically(tmp_path / "run.pt", b"whole")
    (tmp_path / ".run.pt.x1y2").write_bytes(b"half")
    (tmp_path / ".run.pt2.x1y2").write_bytes(b"another's")
    remove(tmp_path / "run.pt")
    assert [path.name for path in tmp_path.iterdir()] == [".run.pt2.x1y2"]


def test_what_another_holds_is_waited_for_and_not_done_twice(suite, tmp_path, monkeypatch, capsys):
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    assert main(["run", str(suite), "--results", str(elsewhere)]) == 0
    capsys.readouterr()
    lock = results / "mine/checkpoints/tiny--lora--s0.lock"
    held = claim(lock)
    assert held.__enter__()

    def other_process_ends(_seconds):
        for kind in ("json", "parquet"):
            name = f"mine/runs/tiny--lora--s0.{kind}"
            write_atomically(results / name, (elsewhere / name).read_bytes())
        held.__exit__(None, None, None)

    monkeypatch.setattr(sharing.time, "sleep", other_process_ends)
    assert main(["run", str(suite), "--results", str(results)]) == 0
    seen = capsys.readouterr()
    assert "waiting for what other processes do: tiny--lora--s0" in seen.err
    assert "tiny--lora--s0: done by another process" in seen.err
    assert "runs: 1 done, 1 there already, 0 failed" in seen.out
    assert not lock.parent.exists()


def test_a_run_that_another_process_has_just_failed_is_not_tried_again(suite, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results"
    bad = TINY["experiments"]["tiny"] | {"adapters": {"full": {"learning_rate": 1e30}}}
    suite.write_text(yaml.safe_dump({**TINY, "experiments": {"tiny": bad}}))
    assert main(["run", str(suite), "--results", str(results)]) == 1
    failure = results / "mine/failed/tiny--full--s0.json"
    check = driver._checked

    def other_process_fails_it(*arguments):
        write_atomically(failure, failure.read_bytes())
        return check(*arguments)

    monkeypatch.setattr(driver, "_checked", other_process_fails_it)
    capsys.readouterr()
    assert main(["run", str(suite), "--results", str(results), "--retry-failed"]) == 1
    assert "tiny--full--s0: FAILED in another process" in capsys.readouterr().err


def test_measurements_are_made_by_one_process_at_a_time(tmp_path, monkeypatch, capsys):
    block = {"model": "tiny-bert", "targets": ["query"], "batch": 2, "length": 4}
    entry = {**block, "adapters": {"lora": {"rank": 2}}}
    path = tmp_path / "cost.yaml"
    path.write_text(yaml.safe_dump({"experiments": {}, "overhead": {"cost": entry}}))

    def measured(suite, name, folders, *_):
        parts = overhead.identity(suite.overhead[name])
        made = {"name": name, "identity": parts, "fingerprint": fingerprint(parts)}
        write_record(folders.overhead(name), overhead_record({"lora": [1.0, 2.0]}, **made))

    monkeypatch.setattr(overhead, "measure_overhead", measured)
    elsewhere, results = tmp_path / "elsewhere", tmp_path / "results"
    assert main(["run", str(path), "--results", str(elsewhere)]) == 0
    capsys.readouterr()
    held = claim(results / "cost/checkpoints/overhead.lock")
    assert held.__enter__()

    def other_process_ends(_seconds):
        measured = "cost/overhead/cost.json"
        write_atomically(results / measured, (elsewhere / measured).read_bytes())
        held.__exit__(None, None, None)

    monkeypatch.setattr(overhead.time, "sleep", other_process_ends)
    assert main(["run", str(path), "--results", str(results)]) == 0
    assert "overhead cost: measured by another process" in capsys.readouterr().err

    versions = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: versions | {"torch": "99.0"})
    assert main(["run", str(path), "--results", str(results), "--keep-old-versions"]) == 0
    assert "measured" not in capsys.readouterr().err
    assert main(["run", str(path), "--results", str(results)]) == 0
    assert (
        f"overhead cost is measured again: software.torch {versions['torch']} -> 99.0"
        in capsys.readouterr().err
    )


def stripped(path: Path) -> dict:
    record = json.loads(path.read_text())
    record["curve"].pop("seconds")
    for block in ("timings", "memory", "provenance"):
        record.pop(block)
    return record


@pytest.mark.slow
def test_two_processes_on_a_new_folder_do_each_run_once(tmp_path, capsys):
    training = {"steps": 60, "batch_size": 8, "learning_rate": 1e-3}
    content = yaml.safe_load(yaml.safe_dump(TINY)) | {"seeds": [0, 1, 2]}
    content["experiments"]["tiny"]["training"] = training
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    other = start(str(path), tmp_path / "together")
    wait_for(tmp_path / "together/mine/checkpoints")  # it holds a run
    assert main(["run", str(path), "--results", str(tmp_path / "together")]) == 0
    errors = [capsys.readouterr().err, other.communicate(timeout=240)[1]]
    assert other.returncode == 0, errors
    lines = [line for text in errors for line in text.splitlines() if "accuracy" in line]
    done = [line.split(": ")[0].split()[-1] for line in lines]
    assert len(done) == len(set(done)) == 6, done
    assert all("accuracy" in text for text in errors), "both took their part"
    assert main(["run", str(path), "--results", str(tmp_path / "alone")]) == 0
    alone = sorted((tmp_path / "alone/mine").rglob("*.*"))
    together = sorted((tmp_path / "together/mine").rglob("*.*"))
    assert [path.name for path in alone] == [path.name for path in together]
    for one, other in zip(alone, together, strict=True):
        if one.suffix == ".json":
            assert stripped(one) == stripped(other)
        else:
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_the_run_of_a_killed_process_is_gone_on_with_by_the_one_that_waits(tmp_path, monkeypatch, capsys):
    """It is held still until this one waits for it, however long that takes to begin."""
    content = yaml.safe_load(yaml.safe_dump(TINY))
    content["experiments"]["tiny"] |= {
        "training": {"steps": 400, "batch_size": 8, "learning_rate": 1e-3},
        "adapters": {"scalora": {"rank": 2}},
    }
    path, results = tmp_path / "mine.yaml", tmp_path / "results"
    path.write_text(yaml.safe_dump(content))
    other = start(str(path), results)
    wait_for(results / "mine/checkpoints/tiny--scalora--s0.pt")
    other.send_signal(signal.SIGSTOP)
    assert not list(results.rglob("*.json")), "it is not done yet"
    sleep, ends = time.sleep, []

    def killed(seconds):
        if not ends:
            other.send_signal(signal.SIGKILL)
            ends.append(other.communicate()[1])
        sleep(seconds)

    monkeypatch.setattr(sharing.time, "sleep", killed)
    assert main(["run", str(path), "--results", str(results)]) == 0
    assert "waiting for what other processes do: tiny--scalora--s0" in capsys.readouterr().err
    assert "Traceback" not in ends[0]
    record = json.loads((results / "mine/runs/tiny--scalora--s0.json").read_text())
    assert record["timings"]["legs"] == 2
    assert len(record["curve"]["step"]) == 400
    assert not (results / "mine/checkpoints").exists()
    assert main(["run", str(path), "--results", str(tmp_path / "whole")]) == 0
    runs = "mine/runs/tiny--scalora--s0.json"
    assert stripped(results / runs) == stripped(tmp_path / "whole" / runs)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(number, tmp_path, capsys):
    """Sent to this process, once it has saved the run."""
    content = yaml.safe_load(yaml.safe_dump(TINY))
    content["experiments"]["tiny"]["training"] = {"steps": 1500, "batch_size": 8, "learning_rate": 1e-3}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    checkpoint = tmp_path / "results/mine/checkpoints/tiny--lora--s0.pt"
    before: list[int] = []

    def send():
        wait_for(checkpoint)
        before.append(os.stat(checkpoint).st_ino)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    code = main(["run", str(path), "--results", str(tmp_path / "results"), "--checkpoint-every", "0.2"])
    sender.join()
    assert code == 130
    error = capsys.readouterr().err
    assert "nothing is lost" in error
    assert f"rankbench run {path}" in error
    assert os.stat(checkpoint).st_ino != before[0], "saved once more"
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]
