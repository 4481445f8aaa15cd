"""lm-eval tasks as their YAML states them, found by name, by file or in a folder; lm-eval is not loaded."""

from __future__ import annotations

from dataclasses import dataclass
from glob import glob
from hashlib import sha256
from pathlib import Path
from typing import Any

from rankbench.tasks.causal.index import Index, declared, stock_index
from rankbench.tasks.causal.stated import read
from rankbench.tasks.causal.stock import OWN, STOCK
from rankbench.tasks.data.hub import HubPin
from rankbench.tasks.data.packages import sha256_of
from rankbench.tasks.options import TaskError, nearest

COMMITS = {
    **{entry.pin.repo: entry.pin.revision for entry in STOCK.values() if isinstance(entry.pin, HubPin)},
    "EleutherAI/hendrycks_math": "21a5633873b6a120296cce3e2df9d5550074f4a3",
    "cais/mmlu": "c30699e8356da336a370243923dbaf21066bb9fe",
}
"""Hub data sets of lm-eval's tasks -> the commit that is read where neither suite nor YAML names one."""

FILES = ("json", "csv", "parquet", "text", "arrow")
"""What `datasets` calls files of its own: a `dataset_path` that is no data set of the hub."""

_DEFAULT_METRIC = {"multiple_choice": "acc", "generate_until": "exact_match", "loglikelihood": "acc"}


@dataclass(frozen=True)
class Definition:
    """One lm-eval task: its YAML with all that it includes, code unread, and the files that make it."""

    name: str
    path: Path
    config: dict[str, Any]
    files: tuple[Path, ...]

    @property
    def metric(self) -> str:
        """The metric that is listed first, under the filter that is listed first: `flat_name`."""
        listed, filters = self.config.get("metric_list"), self.config.get("filter_list")
        first = listed[0]["metric"] if listed else _DEFAULT_METRIC.get(self.config.get("output_type", ""), "")
        return flat_name(str(first), str(filters[0]["name"]) if filters else "none")

    @property
    def metrics(self) -> list[str]:
        """All that are listed, without their filters."""
        return [str(each["metric"]) for each in self.config.get("metric_list") or ()]

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of its data that it reads."""
        shots = self.config.get("fewshot_config") or {}
        kinds = ("training_split", "validation_split", "test_split", "fewshot_split")
        named = [*(self.config.get(kind) for kind in kinds), shots.get("split")]
        return tuple(dict.fromkeys(split for split in named if split))

    def pin(self, revision: str | None) -> HubPin | None:
        """Its data on the hub, at the suite's commit, the YAML's or the one known here; None where it reads
        files, or its own code makes the rows. Raises TaskError where no commit is known."""
        repo = self.config.get("dataset_path")
        if repo is None or "custom_dataset" in self.config or repo in FILES or Path(repo).exists():
            return None
        given = revision or (self.config.get("dataset_kwargs") or {}).get("revision") or COMMITS.get(repo)
        if given is None:
            raise TaskError(
                f"instruct: {self.name} reads {repo}, of which no commit is known here; name one, so that "
                f"the run can be repeated: {{task: {self.name}, revision: COMMIT}}"
            )
        return HubPin(repo, self.config.get("dataset_name"), given)

    def fingerprint(self) -> str:
        """The hash of the YAML, of what it includes, of the code beside it that it names, and of the data
        files that it reads: they decide what is asked and how it is scored."""
        lines = [f"{path.name} {sha256_of(path)}\n" for path in (*self.files, *self._data_files())]
        return sha256("".join(lines).encode()).hexdigest()

    def _data_files(self) -> list[Path]:
        repo, options = self.config.get("dataset_path"), self.config.get("dataset_kwargs") or {}
        folder = str(options.get("data_dir") or "")
        named = options.get("data_files") or (["**"] if folder else [])
        named = list(named.values()) if isinstance(named, dict) else named
        flat = [one for each in (named if isinstance(named, list) else [named]) for one in _listed(each)]
        found = [path for name in flat for path in _local(folder, name)]
        if isinstance(repo, str) and Path(repo).is_dir():
            found += [path for path in sorted(Path(repo).rglob("*")) if path.is_file()]
        return found


def _listed(each: Any) -> list[str]:
    return [str(one) for one in each] if isinstance(each, list) else [str(each)]


def _local(folder: str, name: str) -> list[Path]:
    """The files of a pattern below a folder or the current one, as `datasets` finds them. Raises TaskError
    for what is no file of this disk: nothing tells whether it is the same tomorrow."""
    if "://" in name:
        raise TaskError(f"instruct: {name} may hold other data tomorrow; save it, and name the file")
    found = map(Path, glob(name, root_dir=folder or None, recursive=True))
    return sorted(path for each in found if (path := Path(folder, each)).is_file())


def flat_name(metric: str, filtered: str) -> str:
    """How a metric is called here: lm-eval's `exact_match` under the filter `strict-match` is
    `exact_match_strict_match`."""
    return metric if filtered == "none" else f"{metric}_{filtered.replace('-', '_')}"


@dataclass(frozen=True)
class Group:
    """The tasks of one name: itself, or the members of a group, alike by item or by task."""

    name: str
    members: tuple[Definition, ...]
    by_size: bool = True


def named(name: str) -> Group:
    """lm-eval's own task, group or tag of that name, or ours. Raises TaskError for an unknown one."""
    ours = (STOCK | OWN).get(name)
    members, by_size = _of_name((ours.yaml if ours else "") or name, stock_index(), "instruct: lm-eval has")
    return Group(name, tuple(members), by_size)


def of_file(path: Path, beside: Index | None = None) -> Group:
    """The task or group that a YAML file states; `beside`, and the files in its folder, may hold members.
    Raises TaskError for a file that is missing, broken, or states none."""
    config, files = read(path)
    if isinstance(config.get("task"), str):
        if "class" in config:
            raise TaskError(f"{path}: this task is Python code; a task that is stated in YAML can be scored")
        name = config["task"]
        return Group(name, (Definition(name, path, config, tuple(files)),))
    if not isinstance(config.get("group"), str) or not isinstance(config.get("task"), list):
        raise TaskError(f"{path}: no lm-eval task: it states neither `task: NAME` nor `group:` and its tasks")
    known = stock_index() | declared(path.parent) | (beside or Index())
    members: list[Definition] = []
    for member in config["task"]:
        if not isinstance(member, str):
            raise TaskError(
                f"{path}: the group changes its task {member!r}; list tasks by name, or score each"
            )
        members += _of_name(member, known, f"{path}: there is")[0]
    means = config.get("aggregate_metric_list") or [{}]
    return Group(config["group"], tuple(members), bool(means[0].get("weight_by_size", True)))


def _of_name(name: str, known: Index, what: str) -> tuple[list[Definition], bool]:
    """The tasks that a name stands for, and whether they count by their size."""
    if name in known.files:
        found = of_file(known.files[name], known)
        return list(found.members), found.by_size
    if name not in known.tags:
        raise TaskError(f"{what} no task {name!r}; {nearest(name, [*known.files, *known.tags])[:200]}")
    return [each for task in sorted(known.tags[name]) for each in _of_name(task, known, what)[0]], True
