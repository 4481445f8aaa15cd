"""YAML as people write it: a repeated key is a mistake, 1e-3 is a number, 1:30 is none, the key `on` a word.

On PyYAML: ruamel.yaml 0.19 does both by itself, but lets a key repeat in a block that merges another one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError

__all__ = ["RepeatedKey", "YAMLError", "parse_yaml", "read_yaml"]

MERGE = "tag:yaml.org,2002:merge"
FLOAT = "tag:yaml.org,2002:float"
INT = "tag:yaml.org,2002:int"
BOOL = "tag:yaml.org,2002:bool"
TEXT = "tag:yaml.org,2002:str"


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
            if key.tag == BOOL:  # to PyYAML `on:` is `true:`
                key.tag = TEXT
        return node


def _whole_number(loader: _Loader, node: Any) -> int | str:
    """To PyYAML 1:30:00 is 5400, in whatever unit; who writes it means a time."""
    return str(node.value) if ":" in node.value else loader.construct_yaml_int(node)


# PyYAML takes 1e-3 and 1.5e3 for texts, for want of a point or of a sign.
_Loader.add_implicit_resolver(FLOAT, re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
_Loader.add_constructor(INT, _whole_number)


def parse_yaml(text: str) -> Any:
    """What a text says. Raises YAMLError, RepeatedKey among them."""
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> Any:
    """What a file says. Raises OSError, UnicodeDecodeError, YAMLError; RepeatedKey among the last."""
    return parse_yaml(path.read_text(encoding="utf-8"))
