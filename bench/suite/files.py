"""Suites on the disk: those that come along, and a user's own."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from rankbench.adapters.errors import nearest
from rankbench.bench.records.reader import RepeatedKey, YAMLError, read_yaml
from rankbench.bench.suite.blocks import ConfigError
from rankbench.bench.suite.schema import Suite
from rankbench.bench.suite.staged import KINDS

BUILT_IN = Path(__file__).parent


def suite_names() -> list[str]:
    """The suites that come with rankbench."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def names_suite(word: str) -> bool:
    """Whether a word on the command line is a suite's: a file, or the name of one that comes along."""
    return Path(word).suffix in {".yaml", ".yml"} or word in suite_names()


def load_suite(name: str) -> Suite:
    """A built-in suite by name or any suite file by path.

    Raises ConfigError with one line for an unknown suite, broken YAML or an invalid value.
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = BUILT_IN / f"{name}.yaml"
        if not path.exists():
            raise ConfigError(f"unknown suite {name!r}{nearest(name, suite_names())}")
    try:
        data = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"cannot read suite {path}: {error.strerror}") from None
    except RepeatedKey as error:
        raise ConfigError(f"{path.name}: {error}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is not a suite: it needs the keys {', '.join(Suite.model_fields)}")
    try:
        context = {"folder": path.parent, "choices": _choices_of(path)}
        return Suite.model_validate({"name": path.stem, **data}, context=context)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(_keys(first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        if where.endswith(".[key]"):  # YAML reads 2020-01-01, 12 and yes as no texts
            where, message = where.removesuffix(".[key]"), "a name is a text; quote it"
        raise ConfigError(f"{path.name}: {where + ': ' if where else ''}{message}") from None


def _choices_of(path: Path) -> Path:
    """Where what trials have chosen for a suite is kept beside it."""
    own = path.parent.resolve() == BUILT_IN.resolve()
    return BUILT_IN / "choices" / f"{path.stem}.yaml" if own else path.with_suffix(".choices.yaml")


def _keys(place: tuple[str | int, ...]) -> list[str]:
    """Of a fault, as the file has them: pydantic puts the kind of a measurement behind its name, and that of
    seeds behind theirs."""
    kinds = {at + 1 for at, key in enumerate(place[:-1]) if key == "seeds" and place[at + 1] in KINDS}
    kinds |= {2} if place[:1] == ("overhead",) else set()
    return [str(key) for at, key in enumerate(place) if at not in kinds]
