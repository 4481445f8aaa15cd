"""The model card of an export (README.md): what was trained, on what, how well it did, and how to load it."""

from __future__ import annotations

from typing import Any

import yaml
from tabulate import tabulate

from rankbench.bench.export.layout import BASE, answering, without_address
from rankbench.bench.export.manifest import Export
from rankbench.bench.export.restore import ITEMS, LENGTH, Restored
from rankbench.bench.models.build import auto_class
from rankbench.bench.models.known import REGISTERED


def card(run: Restored, export: Export) -> str:
    """As Markdown, with the fields that the hub reads before it."""
    record, spec = run.record, run.trained.spec
    fields: dict[str, Any] = {
        "library_name": "transformers" if export.form == "merged" else "peft",
        "tags": ["rankbench", record.settings["name"]],
    }
    if spec.model.revision:  # it is the hub's
        fields["base_model"] = spec.model.name
    sections = {
        "Load it": f"```python\n{_loading(run, export)}\n```",
        "Inputs and outputs": "\n".join(f"- {line}" for line in _reading(run)),
        "Figures": _figures(run, export),
        "Training": _table(_training(run)),
        "This export": _table(_exported(export)) + "\n\n" + "\n".join(f"- {line}" for line in export.readers),
        "Data and licences": _table(_origins(run)),
    }
    head = f"`{spec.model.name}` fine-tuned with `{record.adapter}` on `{record.task}`, seed {record.seed}."
    parts = [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join([f"---\n{yaml.safe_dump(fields)}---", f"# {export.run}", head, *parts]) + "\n"


def _loading(run: Restored, export: Export) -> str:
    spec, head = run.trained.spec, run.trained.head
    auto = auto_class(head).__name__
    if export.form == "merged":
        return f'from transformers import {auto}\nmodel = {auto}.from_pretrained("FOLDER")'
    settings: dict[str, Any] = {"revision": spec.model.revision} if spec.model.revision else {}
    if not without_address(spec.model):
        # Checkpoints of less are loaded as they are by default; the export was compared in float32.
        settings["dtype"] = "float32"
        if head.kind == "sequence":
            settings |= answering(run) | {"pad_token_id": run.model.config.pad_token_id}
            settings["ignore_mismatched_sizes"] = True  # the checkpoint's own head may have other classes
    options = "".join(f", {key}={value!r}" for key, value in settings.items())
    base = f"FOLDER/{BASE}" if without_address(spec.model) else spec.model.name
    return (
        f"from peft import PeftModel\nfrom transformers import {auto}\n"
        f'base = {auto}.from_pretrained("{base}"{options})\n'
        'model = PeftModel.from_pretrained(base, "FOLDER")'
    )


def _reading(run: Restored) -> list[str]:
    """What a text may be, and what stands for what in the model's outputs, where that is known."""
    told, settings, (mean, deviation) = [], answering(run), run.trained.unit
    if length := run.record.protocol.get("max_length"):
        cut = f"; longer ones were cut: `truncation=True, max_length={length}`" if settings else ""
        told.append(f"Texts: at most {length} tokens, in training and for the figures{cut}.")
    problem = settings.get("problem_type")
    if problem == "regression":
        number = "output" if (mean, deviation) == (0, 1) else f"output × {deviation:.9g} + {mean:.9g}"
        told.append(f"The number that a text is given: {number}.")
    if labels := run.trained.head.labels:
        told.append(f"Outputs, in order: {', '.join(f'`{label}`' for label in labels)}.")
    if problem == "multi_label_classification":
        told.append("Each class by itself: a text has those whose output is above 0 (a sigmoid above 0.5).")
    return told


def _figures(run: Restored, export: Export) -> str:
    metrics, sizes = run.record.metrics, run.record.protocol.get("sizes", {})
    whose = "what was trained, whole" if export.form == "low-rank" else "these weights"
    columns = {f"{whose} (step {metrics.best_step})": metrics.best}
    if metrics.last_step != metrics.best_step:
        columns[f"step {metrics.last_step}"] = metrics.last
    rows = [[name, *(f"{column[name]:.4f}" for column in columns.values())] for name in metrics.best]
    header = ["on the test split", *columns]
    rule = run.record.protocol.get("selection_rule", "last step")
    items = ", ".join(f"{count} {split}" for split, count in sizes.items())
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    return f"{table}\n\nWeights: {rule} (`{metrics.selection}`). Items: {items}."


def _training(run: Restored) -> dict[str, Any]:
    record, training, targets = run.record, run.trained.spec.training, run.trained.spec.targets
    weights = run.trained.spec.model.weights
    settings = {key: value for key, value in record.settings.items() if key != "name"}
    return {
        "method": record.settings["name"],
        **settings,
        "targets": targets if isinstance(targets, str) else ", ".join(targets),
        "trained whole beside it": ", ".join(record.heads) or "nothing",
        "trained parameters": f"{record.parameters.trainable:,} of {record.parameters.total:,}",
        **training.model_dump(),
        **({} if weights == "float32" else {"frozen weights": f"held in {weights}"}),
        "learning_rate": record.config.get("learning_rate"),
        "seconds": round(record.timings.train, 1),
        "device": record.provenance.get("device"),
        "packages": ", ".join(f"{k} {v}" for k, v in record.provenance.get("packages", {}).items()),
        "fingerprint": record.fingerprint,
    }


def _exported(export: Export) -> dict[str, Any]:
    found: dict[str, Any] = {"form": export.form}
    if export.error is not None:
        found["rank"] = export.rank
        found["relative Frobenius norm of what it lacks"] = f"{export.error:.3g}"
        found["left as pretrained"] = f"{len(export.left_out)} parameters, no weights of linear layers"
    told = f"largest output difference, {ITEMS} random sequences of {LENGTH} tokens"
    return found | {told: f"{export.difference:.2g} (outputs up to {export.largest:.3g})"}


def _origins(run: Restored) -> dict[str, Any]:
    name = run.trained.spec.model.name
    known = REGISTERED.get(name)
    return {
        "training data": run.trained.source or "not stated",
        "SHA-256 of its items": run.record.provenance.get("data_sha256", "not recorded"),
        "its licence": run.trained.licence or "not stated",
        "pretrained model": name,
        "its licence ": known.licence if known else "as its own page says",
    }


def _table(values: dict[str, Any]) -> str:
    return tabulate(list(values.items()), ["", ""], tablefmt="github", disable_numparse=True)
