"""What a driver leaves that is killed at the very moment when it writes how a run ended."""

from __future__ import annotations

from pathlib import Path

from rankbench.bench.records.files import claim

CELL, OTHER = "tiny--lora--s0", "tiny--scalora--s0"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.*")}


def test_what_killed_drivers_left_goes_at_the_next_start(run, tmp_path, capsys):
    folder = tmp_path / "results/mine"
    assert run() == 0
    whole = files(folder)
    for left in (
        f"runs/.{CELL}.json.a1_b2c3", f"runs/.{CELL}.parquet.x", f"failed/.{OTHER}.json.x",
        f"checkpoints/{CELL}.pt", f"checkpoints/.{CELL}.pt.x", f"checkpoints/{OTHER}.lock",
    ):  # fmt: skip
        (folder / left).parent.mkdir(exist_ok=True)
        (folder / left).write_bytes(b"half")
    anothers = "runs/.another--lora--s0.json.x"
    (folder / anothers).write_bytes(b"half")
    assert run() == 0
    assert "2 there already" in capsys.readouterr().out
    assert files(folder) == whole | {anothers}


def test_what_another_process_is_at_is_left_to_it(run, tmp_path):
    folder = tmp_path / "results/mine"
    assert run() == 0
    half, state = folder / f"runs/.{CELL}.json.x", folder / f"checkpoints/{CELL}.pt"
    half.write_bytes(b"half")
    with claim(state.with_suffix(".lock")) as free:
        assert free
        state.write_bytes(b"whole")
        assert run() == 0
        assert half.exists()
        assert state.exists()
