"""What a number depends on, in one hash; and in what two of these differ."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from rankbench.bench.records.costs import OverheadRecord
from rankbench.bench.records.run import FailureRecord, RunRecord

Identity = dict[str, Any]
"""Everything that a number depends on, as JSON."""


def fingerprint(parts: Identity) -> str:
    """SHA-256 of the canonical JSON of an identity. Raises ValueError for what JSON has no number for."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def is_this(
    record: RunRecord | OverheadRecord | FailureRecord, parts: Identity, keep_old_versions: bool
) -> bool:
    """Whether a record is of what has this identity, or of the same with other packages where those are
    kept."""
    same = record.fingerprint == fingerprint(parts)
    return same or (keep_old_versions and same_but_for_versions(record.identity, parts))


def same_but_for_versions(old: Identity, new: Identity) -> bool:
    """Whether nothing but the versions of packages differs."""
    return bool(old) and fingerprint(old | {"software": {}}) == fingerprint(new | {"software": {}})


def differences(old: Identity, new: Identity) -> list[str]:
    """The parts of two identities that differ, as `software.torch 2.13.0 -> 2.14.0`.

    An identity without parts is that of a record of an earlier schema, which held its hash alone.
    """
    if not old:
        return ["the record is of an earlier version of rankbench"]
    # As JSON reads it back: a tuple is a list there.
    before, after = (_flat(json.loads(json.dumps(parts))) for parts in (old, new))
    return [
        f"{key} {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def _flat(parts: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(parts, dict) or not parts:
        return {prefix.removesuffix("."): parts if isinstance(parts, str) else json.dumps(parts)}
    return {k: v for key, value in parts.items() for k, v in _flat(value, f"{prefix}{key}.").items()}
