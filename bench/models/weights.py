"""Where the files of models lie, and what they are: fetched once, converted once, hashed once."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer

from rankbench.bench.models.known import RANDOM, REGISTERED, Registered
from rankbench.bench.models.loading import plain_errors, quiet
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks.data.packages import cache_folder, package_file, sha256_of, unpacked

CONFIGURATION = ("*.json", "*.txt", "*.model", "*.jinja")
SAFETENSORS = ("model.safetensors", "model-*.safetensors")
PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")


def packaged(name: str) -> Path:
    """The folder with a registered model's files, fetched and converted where that is not done yet.

    Raises TaskError where the package cannot be fetched.
    """
    registered = REGISTERED[name]
    assert registered.pin is not None
    folder = package_file(registered.pin, registered.folder)
    return _converted(folder, registered) if registered.gguf else folder


def location(model: Model) -> str:
    """What the loaders are given: a folder, or the hub id."""
    return str(packaged(model.name)) if model.name in REGISTERED else model.name


def local_folder(model: Model) -> Path | None:
    """The folder with the model's weights where they are on this machine; downloads nothing."""
    if model.name in REGISTERED:
        registered = REGISTERED[model.name]
        if registered.pin is None:
            return None
        there = _conversion(registered).exists() if registered.gguf else unpacked(registered.pin)
        return packaged(model.name) if there else None
    if model.name.startswith(RANDOM):
        return None
    folder = Path(model.name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(model.name, revision=model.revision, local_files_only=True))
        except LocalEntryNotFoundError:
            return None
        return folder if _any(folder, (*SAFETENSORS, *PICKLED)) else None
    return folder


def fetch_hub(model: Model) -> None:
    """Have the hub's client fetch what is read: whole weights rather than parts, and pickled ones only where
    there are no safe ones.

    Raises ConfigError where it cannot.
    """
    from huggingface_hub import snapshot_download

    def wanted(*patterns: str) -> Path:
        # A pattern's star matches folders too, and variants (model-00001-of-00002.fp16.safetensors): they
        # hold the same weights for other programs.
        return Path(
            snapshot_download(
                model.name,
                revision=model.revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*", "*.*.safetensors", "*.*.bin"],
            )
        )

    with plain_errors(model):
        for whole, parts in (SAFETENSORS, PICKLED):
            folder = wanted(*CONFIGURATION, whole)
            if not (folder / whole).exists():  # some repositories have both
                wanted(parts)
            if _any(folder, (whole, parts)):
                break
    _refuse_unreadable(folder)


def safetensors(folder: Path) -> list[Path]:
    """The files that a loader reads there: none where weights are pickled."""
    whole, parts = SAFETENSORS
    return [folder / whole] if (folder / whole).exists() else sorted(folder.glob(parts))


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and hashes of the files that a model is read from.

    Raises ConfigError for a folder without weights that can be read.
    """
    _refuse_unreadable(folder)
    weights = SAFETENSORS if _any(folder, SAFETENSORS) else PICKLED
    files = sorted(path for pattern in (*CONFIGURATION, *weights) for path in folder.glob(pattern))
    stats = [path.stat() for path in files]
    hashes = [_file_hash(path, at.st_size, at.st_mtime_ns) for path, at in zip(files, stats, strict=True)]
    lines = [f"{path.name} {found}\n" for path, found in zip(files, hashes, strict=True)]
    return sha256("".join(lines).encode()).hexdigest()


def _refuse_unreadable(folder: Path) -> None:
    if (folder / "adapter_config.json").exists():
        raise ConfigError(f"model {folder} is a PEFT adapter; merge it into its model and save that")
    if not _any(folder, (*SAFETENSORS, *PICKLED)):
        others = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise ConfigError(
            f"model {folder} has no weights that can be read ({SAFETENSORS[0]} or {PICKLED[0]}, whole or in "
            f"parts); it holds {others}"
        )


def _any(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


@cache
def _file_hash(path: Path, _size: int, _changed: int) -> str:
    """Read once a process, unless the file is another by its size and time."""
    return sha256_of(path)


def _conversion(registered: Registered) -> Path:
    assert registered.pin is not None
    return cache_folder() / "models" / f"{registered.pin.name}-{registered.pin.sha256[:12]}"


def _converted(folder: Path, registered: Registered) -> Path:
    """A GGUF file as float32 safetensors, converted once (half a minute) and then cached."""
    target = _conversion(registered)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        _convert(folder, registered, temporary)
        temporary.chmod(0o755)
        os.replace(temporary, target)
    except OSError:
        if not target.exists():  # otherwise another process was first, with the same files
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _convert(folder: Path, registered: Registered, target: Path) -> None:
    with quiet():
        quantised = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=registered.gguf, dtype=torch.float32
        )
        config = quantised.config
        del config.quantization_config
        plain = type(quantised)(config)
        plain.load_state_dict(quantised.state_dict())
        plain.save_pretrained(target)
        AutoTokenizer.from_pretrained(folder, gguf_file=registered.gguf).save_pretrained(target)
