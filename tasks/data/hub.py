"""Data sets of the hub, pinned to a commit, or read from a local mirror of them (`files`)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rankbench.tasks.data.files import read_mirror, root_cause, split_files
from rankbench.tasks.data.packages import sha256_of
from rankbench.tasks.data.rows import Rows
from rankbench.tasks.options import TaskError

COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class HubPin:
    """One configuration of a hub data set, at one commit."""

    repo: str
    config: str | None
    revision: str

    def __str__(self) -> str:
        return f"{self.repo} ({self.config})" if self.config else self.repo

    def fingerprint(self, mirror: str | os.PathLike[str] | None, splits: tuple[str, ...]) -> dict[str, str]:
        """The commit, or the hash of the mirror's files that stand in for it. What a mirror lacks changes
        the hash and raises nothing: `load_hub` tells it."""
        pin = {"hub": self.repo, "config": self.config or "default"}
        folder = resolve_mirror(mirror)
        if folder is None:
            return pin | {"revision": self.revision}
        try:
            files = split_files(self, folder)
        except TaskError:
            files = {}
        lines = [f"{split} {sha256_of(path)}\n" for split in splits for path in files.get(split, ())]
        return pin | {"files": hashlib.sha256("".join(lines).encode()).hexdigest()}


def resolve_mirror(option: str | os.PathLike[str] | None) -> Path | None:
    """The mirror folder to use: the option, else `RANKBENCH_MIRROR`, else none (the hub itself)."""
    chosen = option or os.environ.get("RANKBENCH_MIRROR")
    if not chosen:
        return None
    mirror = Path(chosen).expanduser().resolve()
    if not mirror.is_dir():
        raise TaskError(f"there is no mirror folder {mirror}; check --mirror or RANKBENCH_MIRROR")
    return mirror


def load_hub(pin: HubPin, mirror: str | os.PathLike[str] | None, splits: tuple[str, ...]) -> dict[str, Rows]:
    """The given splits, from the hub or from the mirror that an option or the environment names. Raises
    TaskError for a split that is missing or empty, an unreadable file, and a hub that cannot be reached."""
    folder = resolve_mirror(mirror)
    loaded = _from_hub(pin, splits) if folder is None else read_mirror(pin, folder, splits)
    for split in splits:
        if not len(loaded[split].data):
            files = ", ".join(str(path) for path, _ in loaded[split].files)
            raise TaskError(f"the split {split!r} of {pin} is empty{files and f': no row in {files}'}")
    return loaded


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of `datasets`: they fill logs."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()


def _from_hub(pin: HubPin, splits: tuple[str, ...]) -> dict[str, Rows]:
    import datasets

    commit = COMMIT.fullmatch(pin.revision)
    load = datasets.load_dataset if commit else datasets.load_dataset_builder
    try:
        with without_bars():
            loaded = load(pin.repo, pin.config, revision=pin.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        origin = "the hub (is there a network? --mirror reads local files)"
        raise TaskError(f"cannot load {pin} from {origin}: {root_cause(error)}") from error
    if not commit:
        raise TaskError(
            f"{pin}: {pin.revision!r} is no commit, and may hold other data tomorrow; "
            f"write the one that it is now: revision: {loaded.hash}"
        )
    for split in splits:
        if split not in loaded:
            raise TaskError(f"{pin} has no split {split!r} on the hub, only {', '.join(loaded)}")
    return {split: Rows(loaded[split], split, f"hub data set {pin}") for split in splits}
