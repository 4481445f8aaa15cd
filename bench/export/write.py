"""A saved adapter exported to a folder, in the form that is asked for.

What was written is loaded again, by PEFT or transformers, and compared with what was trained before the
folder gets its name: an export that answers otherwise is none.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from rankbench.adapters import AdapterError
from rankbench.bench.export.card import card
from rankbench.bench.export.layout import BASE, load, save_peft, save_whole, without_address
from rankbench.bench.export.low_rank import nearest
from rankbench.bench.export.manifest import MANIFEST, Export, Form
from rankbench.bench.export.readers import remarks
from rankbench.bench.export.restore import Restored, base_of, outputs
from rankbench.bench.records import RecordError, write_record
from rankbench.bench.suite import ConfigError

TOLERANCE = 1e-5
"""What an output may differ by, of the largest one: the order of sums is another."""


def write(run: Restored, cell: str, folder: Path, form: Form, rank: int | None = None) -> Export:
    """Write to a folder that is not there yet, or empty; the restored model is merged or used up by it.

    Raises ConfigError for a folder that holds something and for a rank that does not go with the form,
    AdapterError where the method has no such form, RecordError where the folder cannot be written or what is
    loaded from it answers otherwise.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; name another folder, or remove it")
    if rank and form != "low-rank":
        raise ConfigError(f"--rank goes with --as low-rank; --as {form} takes all that was trained")
    expected = outputs(run.model)
    with _to_be(folder) as place:
        found = _write_form(run, place, folder, form, rank)
        export = Export(
            form=form,
            suite=run.record.suite,
            run=cell,
            fingerprint=run.record.fingerprint,
            about=run.trained.about,
            adapter=run.record.saved.sha256 if run.record.saved else "",
            weights=run.record.identity["weights"],
            readers=remarks(_config(place)),
            **found,
            **_compared(expected, place, run, form),
        )
        write_record(place / MANIFEST, export)
        (place / "README.md").write_text(card(run, export), encoding="utf-8")
    return export


def _write_form(run: Restored, place: Path, folder: Path, form: Form, rank: int | None) -> dict[str, Any]:
    """What is to be said of a low-rank form."""
    trained = run.trained
    if form == "merged":
        run.adapter.merge(run.model)
        save_whole(run.model, run, place)
        return {}
    name = trained.spec.model.name
    home = Path(name).absolute() if Path(name).is_dir() else name
    address = str(folder.absolute() / BASE if without_address(trained.spec.model) else home)
    if form == "peft":
        try:
            made = run.adapter.peft_form()
        except AdapterError as error:
            raise AdapterError(f"{error}; export it --as merged, or --as low-rank with a --rank") from None
        save_peft(made, run, place, address)
        return {}
    rank = rank or run.record.rank
    if rank is None:
        raise ConfigError(f"{run.adapter.name} has no rank of its own; say --rank")
    start = dict(base_of(trained).named_parameters())
    low = nearest(start, run.adapter.merge(run.model), run.adapter.heads, rank)
    save_peft(low.form, run, place, address)
    return {"rank": rank, "error": low.error, "left_out": low.left_out}


def _compared(expected: Tensor, place: Path, run: Restored, form: Form) -> dict[str, Any]:
    """Raises RecordError where it cannot be loaded, or is no low-rank form and answers otherwise."""
    other = "peft" if form == "merged" else "merged"
    try:
        difference = float((outputs(load(place, run.trained, form)) - expected).abs().max())
    except Exception as error:  # PEFT raises whatever it likes
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RecordError(f"--as {form} could not be loaded again ({reason}); take --as {other}") from error
    largest = float(expected.abs().max())
    if form != "low-rank" and not difference <= TOLERANCE * max(1.0, largest):
        raise RecordError(
            f"--as {form} does not give the trained model again when it is loaded (outputs of up to "
            f"{largest:.3g} differ by {difference:.2g}); take --as {other}"
        )
    return {"difference": difference, "largest": largest}


def _config(place: Path) -> dict[str, Any] | None:
    """PEFT's, as others read it; None of a whole model."""
    path = place / "adapter_config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@contextmanager
def _to_be(folder: Path) -> Iterator[Path]:
    """A folder beside the one that it becomes at the end; nothing is left of it where that does not come.

    Raises RecordError where it cannot be written.
    """
    temporary = None
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}."))
        yield temporary
        temporary.chmod(0o755)
        for path in temporary.rglob("*.safetensors"):
            path.chmod(0o644)
        os.replace(temporary, folder)
    except (OSError, SafetensorError) as error:
        told = getattr(error, "strerror", None) or error
        raise RecordError(f"cannot write {folder}: {told}; name another folder or free space") from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
