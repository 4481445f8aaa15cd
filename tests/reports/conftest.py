"""One report of many made records, written once for every test that only reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench import reports
from tests.made_records import realistic, run_record, save

LAYERS = {f"encoder.layer.{layer}.{name}": layer + 1 for layer in range(3) for name in ("query", "value")}
"""The ranks that pruning leaves."""


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = realistic(tmp_path_factory.mktemp("results") / "laptop", steps=40, seeds=2)
    for seed in (0, 1):
        left = {name: rank + 2 * seed for name, rank in LAYERS.items()}
        config = {"adapter": {"name": "lora2", "rank": 8}}
        save(folder, run_record("pruned", "lora2", seed, diagnostics={"rank": left}, config=config))
    (folder / "figures").mkdir()
    (folder / "figures" / "loss--gone.svg").write_text("of an earlier run")
    reports.write(folder)
    return folder
