"""What an installed copy holds: every package of ours, none by accident."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOP = ("adapters", "bench", "reports", "tasks")


def test_every_package_of_ours_is_installed() -> None:
    found = {
        ".".join(("rankbench", *path.parent.relative_to(ROOT).parts))
        for top in TOP
        for path in (ROOT / top).rglob("__init__.py")
    }
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == found
