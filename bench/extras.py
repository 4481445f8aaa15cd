"""Packages that an option needs and an extra of this one installs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rankbench.bench.suite import ConfigError


@contextmanager
def extra(option: str, name: str, package: str) -> Iterator[None]:
    """Import `package`, which `option` needs, in the block; the extra `name` installs it. Raises ConfigError
    with the way out where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ConfigError(f"{option} needs {package}: pip install 'rankbench[{name}]'") from None
