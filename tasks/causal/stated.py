"""What a YAML file of lm-eval's states, without running the code that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rankbench.tasks.options import TaskError

_SCORED = ("validation_split", "test_split", "fewshot_split")
_FORMS: dict[type, tuple[str, tuple[str, ...]]] = {
    list: ("a list", ("metric_list", "filter_list", "aggregate_metric_list")),
    dict: ("`key: value`", ("dataset_kwargs", "fewshot_config")),
    str: ("a text", ("dataset_path", "dataset_name", "output_type", "training_split", *_SCORED)),
}


def read(path: Path, seen: tuple[Path, ...] = ()) -> tuple[dict[str, Any], list[Path]]:
    """What a YAML file states with what it includes, functions by their names; and the files that it is made
    of, with the code beside them. Raises TaskError for one that is missing, broken, or of another form."""
    code: list[Path] = []

    class Loader(yaml.SafeLoader):
        pass

    def function(_: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
        module = path.parent / f"{str(node.value).rpartition('.')[0].replace('.', '/')}.py"
        code.extend([module] if module.is_file() else [])
        return str(node.value)

    Loader.add_constructor("!function", function)
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise TaskError(f"{path}: no lm-eval task: it states no `task: NAME`")
    included = config.pop("include", [])
    if fault := _fault(config):
        raise TaskError(f"{path}: {fault}")
    files = [path]
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        other = path.parent / str(name)
        if other in seen:
            raise TaskError(f"{path} includes {other}, which includes it")
        stated, beneath = read(other, (*seen, path))
        merged |= stated
        files += beneath
    return merged | config, [*files, *dict.fromkeys(code)]


def _fault(config: dict[str, Any]) -> str:
    """What of that which is read here has a form that lm-eval does not take; the rest it tells itself."""
    for kind, (what, keys) in _FORMS.items():
        for key in keys:
            if not isinstance(config.get(key), kind | None):
                return f"{key} must be {what}, got {config[key]!r}"
    for key, part in (
        ("metric_list", "metric"),
        ("filter_list", "name"),
        ("aggregate_metric_list", "metric"),
    ):
        for each in config.get(key) or ():
            if not isinstance(each, dict) or part not in each:
                return f"{key}: {each!r} has no `{part}`"
    return ""
