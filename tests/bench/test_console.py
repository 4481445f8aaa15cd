"""Whatever the console's encoding, every command prints; what it lacks is written plainly."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankbench.bench.console import PLAIN, print_anywhere
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


def test_what_is_missing_is_written_plainly(console):
    shown = console("ascii")
    print("0.5 ± 0.1 × – λ दिन 🙂")
    assert shown.getvalue() == b"0.5 +/- 0.1 x - \\u03bb \\u0926\\u093f\\u0928 \\U0001f642\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_nothing_is_changed_where_nothing_is_missing(console, encoding):
    shown = console(encoding)
    print("".join(PLAIN))
    assert shown.getvalue().decode(encoding) == "".join(PLAIN) + "\n"


@pytest.mark.parametrize(
    "surroundings",
    [
        {"PYTHONIOENCODING": "ascii"},
        pytest.param({"PYTHONIOENCODING": "cp1252"}, marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "shift_jis"}, marks=pytest.mark.slow),
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
