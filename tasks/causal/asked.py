"""An entry of a suite's `score`: which lm-eval tasks it names, by which metric, with which data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankbench.tasks.causal import definitions
from rankbench.tasks.causal.definitions import Group
from rankbench.tasks.causal.index import declared
from rankbench.tasks.data.hub import HubPin
from rankbench.tasks.metrics import find
from rankbench.tasks.options import TaskError, check_counts, nearest

KEYS = ("task", "yaml", "folder", "metric", "fewshot", "revision")


@dataclass(frozen=True)
class Asked:
    """One entry of `score`."""

    group: Group
    metric: str
    """As lm-eval calls it, with its filter: `exact_match_strict_match`."""
    fewshot: int | None
    """Examples before each question; None: as the YAML says."""
    revision: str | None

    @property
    def name(self) -> str:
        """Of the task or group."""
        return self.group.name

    def metric_of(self, name: str) -> str:
        """How the metric of a task or of the group is called in a record."""
        return f"{name}/{self.metric}"

    def pins(self) -> list[HubPin | None]:
        """What holds each member's data."""
        return [each.pin(self.revision) for each in self.group.members]

    def fingerprint(self, mirror: Any) -> dict[str, Any]:
        """What its score depends on."""
        members = {
            each.name: {
                "template": each.fingerprint(),
                "data": pin.fingerprint(mirror, each.splits) if pin else "of its own",
            }
            for each, pin in zip(self.group.members, self.pins(), strict=True)
        }
        return {"members": members, "metric": self.metric, "fewshot": self.fewshot}


def asked(entry: Any) -> Asked:
    """An entry of `score`: lm-eval's name of a task or group, `{yaml: FILE}`, or `{folder: DIR, task: NAME}`;
    with `metric`, `fewshot` and `revision` where wanted. Raises TaskError for anything else."""
    given: Mapping[str, Any] = {"task": entry} if isinstance(entry, str) else entry
    if not isinstance(given, Mapping) or not {"task", "yaml"} & set(given):
        raise TaskError(
            f"instruct: score {entry!r}: give a task's name, {{yaml: FILE}} or {{folder: DIR, task: NAME}}"
        )
    for key, value in given.items():
        if key not in KEYS:
            raise TaskError(f"instruct: score {entry!r} has no key {key!r}; {nearest(str(key), KEYS)}")
        if key != "fewshot" and not (isinstance(value, str) and value):
            raise TaskError(f"instruct: score {entry!r}: {key} must be a text, got {value!r}")
    if (shots := given.get("fewshot")) != 0:
        check_counts("instruct", fewshot=shots)
    own = "yaml" in given or "folder" in given
    group = _group(given)
    metrics = {member.metric for member in group.members}
    if "metric" not in given and len(metrics) > 1:
        raise TaskError(
            f"instruct: the tasks of {group.name} have several metrics; name one: metric: {min(metrics)}"
        )
    if not group.members:
        raise TaskError(f"instruct: the group {group.name} has no tasks")
    metric = given.get("metric") or min(metrics)
    if find(metric) is None:
        listed = dict.fromkeys(name for member in group.members for name in member.metrics)
        states = f"of its own there are {', '.join(listed)}" if listed else "it states no metric_list"
        raise TaskError(f"instruct: {group.name}: nothing is known of a metric {metric!r}; {states}")
    found = Asked(group, metric, shots if own or shots else 0, given.get("revision"))
    found.pins()  # refuses data without a commit
    return found


def _group(given: Mapping[str, Any]) -> Group:
    if "yaml" in given:
        if {"task", "folder"} & set(given):
            raise TaskError(
                f"instruct: score {dict(given)!r}: a YAML file states its own task; leave the rest out"
            )
        return definitions.of_file(Path(given["yaml"]).expanduser())
    if "folder" not in given:
        if given["task"].endswith((".yaml", ".yml")):
            raise TaskError(f"instruct: score {given['task']!r}: write {{yaml: {given['task']}}}")
        return definitions.named(given["task"])
    folder = Path(given["folder"]).expanduser()
    if not folder.is_dir():
        raise TaskError(f"instruct: there is no folder {folder} (from the folder {Path.cwd()})")
    known = declared(folder)
    if given["task"] not in known.files:
        there = nearest(given["task"], [*known.files])[:200] if known.files else "it holds none"
        raise TaskError(f"instruct: no YAML file in {folder} states the task {given['task']!r}; {there}")
    return definitions.of_file(known.files[given["task"]], known)
