"""A package of somebody else's, as installed: what registers its adapters, tasks and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rankbench.bench.suite.plugged import TABLES


def install(folder: Path, version: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """Its metadata in a folder that is on the path: group -> name -> place. The caller has the registries
    forget it when it is gone."""
    info = folder / "plugged.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugged\nVersion: {version}\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))
    for others in TABLES.values():
        others.forget()
