"""The tiny suite as a file, and the command that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from rankbench.bench.cli import main
from rankbench.bench.suite.plugged import TABLES
from tests.bench.tiny_suite import TINY


@pytest.fixture(autouse=True)
def no_plugin_stays() -> Iterator[None]:
    """In this process's registries: the next test may have another file of that name."""
    yield
    for others in TABLES.values():
        others.plugged = {}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture
def run(suite: Path, tmp_path: Path) -> Callable[..., int]:
    return lambda *words: main(["run", str(suite), "--results", str(tmp_path / "results"), *words])
