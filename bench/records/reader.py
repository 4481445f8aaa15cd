"""YAML as people write it: a repeated key is a mistake, and 1e-3 is a number.

On PyYAML: ruamel.yaml 0.19 does both by itself, but lets a key repeat in a block that merges another one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError

__all__ = ["RepeatedKey", "YAMLError", "read_yaml"]

MERGE = "tag:yaml.org,2002:merge"
FLOAT = "tag:yaml.org,2002:float"


class RepeatedKey(YAMLError):
    """A block says one thing twice; the message names line and key."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Where keys are still as written: later on, those that `<<` brings stand among them."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if key.value in seen:
                raise RepeatedKey(f"line {key.start_mark.line + 1} repeats the key {key.value!r}; keep one")
            seen.add(key.value)
        return node


# PyYAML takes 1e-3 and 1.5e3 for texts, for want of a point or of a sign.
_Loader.add_implicit_resolver(FLOAT, re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def read_yaml(path: Path) -> Any:
    """What a file says. Raises OSError, UnicodeDecodeError, YAMLError; RepeatedKey among the last."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
