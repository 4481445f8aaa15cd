"""Whatever the console's encoding, every command prints; what it lacks is written plainly."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankbench.bench.console import PLAIN, Progress, print_anywhere
from rankbench.bench.records import Curve
from tests.made_records import accuracy, run_record, save

ROOT = Path(__file__).parents[2]


@pytest.fixture
def console(monkeypatch):
    def of(encoding: str) -> io.BytesIO:
        shown = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding, write_through=True))
        print_anywhere()
        return shown

    return of


@pytest.mark.parametrize(
    ("encoding", "plain"),
    [
        ("ascii", "0.5 +/- 0.1 x - \\u03bb"),
        ("cp1252", "0.5 ± 0.1 × – \\u03bb"),
        ("shift_jis", "0.5 ± 0.1 × - λ"),
    ],
)
def test_what_is_missing_is_written_plainly(encoding, plain, console):
    shown = console(encoding)
    print("0.5 ± 0.1 × – λ दिन 🙂")
    assert shown.getvalue().decode(encoding) == plain + " \\u0926\\u093f\\u0928 \\U0001f642\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_nothing_is_changed_where_nothing_is_missing(console, encoding):
    shown = console(encoding)
    print("".join(PLAIN))
    assert shown.getvalue().decode(encoding) == "".join(PLAIN) + "\n"


@pytest.mark.parametrize(
    "surroundings",
    [
        {"PYTHONIOENCODING": "ascii"},
        pytest.param(
            {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.slow
        ),
    ],
)
def test_compare_prints_on_a_console_that_is_not_utf_8(surroundings, tmp_path):
    for name, score in (("before", 0.8), ("after", 0.5)):
        for seed in range(3):
            save(tmp_path / name, run_record("बीबीसी", "lora", seed, metrics=accuracy(score + seed / 1000)))
    words = ["compare", str(tmp_path / "before"), str(tmp_path / "after"), "--all"]
    done = subprocess.run(
        [sys.executable, "-m", "rankbench.bench", *words], cwd=ROOT, env={**os.environ, **surroundings},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == b""
    assert done.returncode == 1, "it got worse"
    assert b"regressed" in done.stdout


def curve(step: int) -> Curve:
    entries = {name: [0.5] for name in Curve.model_fields}
    return Curve(**entries | {"step": [step]})


@pytest.fixture
def clock(monkeypatch):
    """Set by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_what_is_left_counts_the_runs_under_way_with_what_is_done_of_them(clock, capsys):
    progress = Progress(6)
    progress.begin("checking")
    clock[0] += 1000
    for cell in "ab":
        progress.begin(cell)
    progress.tick("a", curve(1), steps=100)
    clock[0] += 60
    progress.tick("a", curve(50), steps=100)
    progress.end("fine", "b")  # one and a half of six in a minute
    assert capsys.readouterr().err.splitlines() == [
        "a: step 50/100 loss 0.5000",
        "[1/6] b: fine; about 3 min 00 s left",
    ]


def test_what_was_there_says_nothing_of_what_is_left(clock, capsys):
    """Nine tenths of a run that was interrupted, and a run of another suite."""
    progress = Progress(4)
    progress.begin("a")
    progress.end("taken over from other", "a", found=True)
    progress.begin("b")
    progress.tick("b", curve(901), steps=1000)
    clock[0] += 10
    progress.tick("b", curve(1000), steps=1000)
    progress.end("fine", "b")  # a tenth of a run in ten seconds; two are left
    progress = Progress(1)
    progress.begin("c")
    progress.end("done by another process", "c", found=True)
    assert capsys.readouterr().err.splitlines() == [
        "[1/4] a: taken over from other; the time left is not known yet",
        "[2/4] b: fine; about 3 min 20 s left",
        "[1/1] c: done by another process; about 0 s left",
    ]


def test_what_is_noted_stays_on_a_terminal(monkeypatch):
    """What is only being done gives way to what is done next."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(2)
    progress.note("3 runs are done again: torch 2.10 -> 2.11")
    progress.doing("round 1 of 12")
    progress.begin("bbc--full--s0")
    progress.end("FAILED, the loss is nan at step 3")
    progress.begin("movie--lora--s0")
    progress.end("accuracy 0.8 in 9 s")
    progress.begin("movie--lora--s1")
    lines = [line.split("\r")[-1].strip() for line in terminal.getvalue().split("\n")]
    assert lines[0] == "3 runs are done again: torch 2.10 -> 2.11"
    assert lines[1] == "bbc--full--s0: FAILED, the loss is nan at step 3"
    assert lines[-1].startswith("movie--lora--s1")
    assert len(lines) == 3
    progress.close()


def test_a_terminal_shows_all_that_is_under_way_in_one_line(clock, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    progress = Progress(4)
    for cell in ("movie--lora--s0", "bbc--full--s0"):
        progress.begin(cell)
        progress.tick(cell, curve(1), steps=20)
        clock[0] += 30
        progress.tick(cell, curve(10), steps=20)
    shown = terminal.getvalue().split("\r")[-1]
    assert "2 runs" in shown
    assert "about 3 min 00 s left, movie--lora--s0 10/20, bbc--full--s0 10/20" in shown
    progress.end("fine", "movie--lora--s0")
    clock[0] += 1
    progress.tick("bbc--full--s0", curve(11), steps=20)
    assert "bbc--full--s0:" in (shown := terminal.getvalue().split("\r")[-1])
    assert "step 11/20 loss 0.5000" in shown
    progress.close()
