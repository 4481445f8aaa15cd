"""A package of somebody else's, as installed: what registers its adapters."""

from __future__ import annotations

from pathlib import Path

from rankbench import adapters


def install(folder: Path, version: str, **entries: str) -> None:
    """Its metadata in a folder that is on the path. The caller forgets the registry when it is gone."""
    info = folder / "plugged.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugged\nVersion: {version}\n")
    lines = "".join(f"{name} = {place}\n" for name, place in entries.items())
    (info / "entry_points.txt").write_text(f"[{adapters.GROUP}]\n{lines}")
    adapters._registry.cache_clear()
