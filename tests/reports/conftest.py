"""One report of many made records, written once for every test that only reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench import reports
from tests.made_records import realistic


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = realistic(tmp_path_factory.mktemp("results") / "laptop", steps=40, seeds=2)
    (folder / "figures").mkdir()
    (folder / "figures" / "loss--gone.svg").write_text("of an earlier run")
    reports.write(folder)
    return folder
