"""A method in a file of a suite's own, with a module beside it, and suites that name it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.bench.tiny_suite import with_changes

METHOD = """
from dataclasses import dataclass
from typing import ClassVar
from rankbench.adapters.lora import Lora
import beside

@dataclass(kw_only=True)
class Mine(Lora):
    name: ClassVar[str] = "mine"

    @property
    def scale(self):
        return beside.factor() * super().scale

ADAPTERS = {"mine": Mine}
"""
BESIDE = "def factor():\n    return 2.0\n"


def write_method(folder: Path) -> Path:
    """Both files; returns that of the method."""
    (folder / "beside.py").write_text(BESIDE)
    path = folder / "mine.py"
    path.write_text(METHOD)
    return path


def write(folder: Path, *, plugins: Any = None, name: str = "mine.yaml", **changes: Any) -> Path:
    """The tiny suite with these files and with other settings of its experiment."""
    content = with_changes(**changes) | ({} if plugins is None else {"plugins": plugins})
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path
