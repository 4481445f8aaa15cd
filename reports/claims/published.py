"""The papers' figures as data: `results/published/`, one YAML file a paper, checked as it is read.

A table names its columns ("TASK" or "TASK, WHAT"), each with its metric; a row gives the values that
were found. A value that was not found is absent, and a table of which nothing was found says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rankbench.bench.records.block import Block
from rankbench.bench.records.reader import RepeatedKey, YAMLError, read_yaml

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
CLAIMS = "claims.yaml"

Role = Literal["claims", "baseline", "context"]
Hand = Literal["first", "second"]
Schema = TypeVar("Schema", bound=BaseModel)


class PublishedError(ValueError):
    """A published figure or claim that cannot be used; the message names file and entry."""


class Strict(Block):
    """A part of a file of published figures or claims."""

    model_config = ConfigDict(frozen=True)


class Protocol(Strict):
    """What is known of how a figure was made; None is not known."""

    targets: str | None = None
    steps: int | None = Field(default=None, gt=0)
    epochs: float | None = Field(default=None, gt=0)
    batch: int | None = Field(default=None, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)
    alpha: float | None = Field(default=None, gt=0)
    length: int | None = Field(default=None, gt=0)
    """Longest input in tokens."""
    precision: str | None = None
    seeds: int | None = Field(default=None, gt=0)
    scoring: str | None = None

    def over(self, other: Protocol) -> Protocol:
        """These fields where they are known, else the other's."""
        return Protocol(**(other.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)))


class Row(Strict):
    """One method of a table: column -> value, and the spread where one is printed."""

    method: str
    rank: int | None = Field(default=None, gt=0)
    parameters: str | None = None
    """As printed; tells rows of one method apart."""
    settings: dict[str, int | list[str]] = Field(default={})
    """Hyperparameters of the method, by our names, that the row states."""
    protocol: Protocol = Protocol()
    note: str = ""
    values: dict[str, float] = Field(default={}, min_length=1)
    spreads: dict[str, float] = Field(default={})
    """Standard deviations."""
    recomputed: dict[str, float] = Field(default={})
    """Averages that the row's own cells give, where another one is printed."""
    ranks: dict[str, dict[str, list[int]]] = Field(default={})
    """Of a map of ranks: column -> matrix -> singular values left, layer by layer."""

    @model_validator(mode="after")
    def _beside_values(self) -> Row:
        if not (self.values or self.ranks):
            raise ValueError(f"{self.method} has neither values nor ranks")
        for what, found in (("spread", self.spreads), ("recomputed average", self.recomputed)):
            if stray := sorted(found.keys() - self.values.keys()):
                raise ValueError(f"{what} without a value: {', '.join(stray)}")
        return self


class Table(Strict):
    """A table, or a figure's numbers, on one model."""

    table: str
    model: str
    unit: str
    """`percent` where all values are shares or scores ×100."""
    hand: Hand
    """`second`: read in a text about the paper, not in the paper."""
    source: str
    protocol: Protocol = Protocol()
    by_column: dict[str, Protocol] = Field(default={})
    """What differs from column to column."""
    note: str = ""
    missing: str = ""
    """What the paper has and no source gave."""
    columns: dict[str, str] = Field(min_length=1)
    """Column -> metric."""
    rows: list[Row] = Field(default=[])

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        if not (self.rows or self.missing):
            raise ValueError("a table without rows must say under `missing` what was not found")
        seen = set()
        for row in self.rows:
            key = (row.method, row.rank, row.parameters)
            if key in seen:
                raise ValueError(f"two rows of {row.method}, rank {row.rank}")
            seen.add(key)
            if unknown := sorted({*row.values, *row.ranks} - self.columns.keys()):
                raise ValueError(f"{row.method} has a value in no column of the table: {', '.join(unknown)}")
            for column, value in row.values.items():
                if self.unit == "percent" and not -100 <= value <= 100:
                    raise ValueError(f"{row.method}, {column}: {value} is no percentage")
        if unknown := sorted(self.by_column.keys() - self.columns.keys()):
            raise ValueError(f"a protocol for no column of the table: {', '.join(unknown)}")
        return self


class Paper(Strict):
    """What was found of one paper."""

    paper: str | None = Field(pattern=r"^\d{4}\.\d{5}$")
    """arXiv id."""
    name: str
    title: str
    role: Role
    """`claims`: judged here; `baseline`: its rows stand beside ours; `context`: for scale only."""
    tables: list[Table] = Field(min_length=1)


def load_papers(folder: Path = PUBLISHED) -> list[Paper]:
    """The papers with their tables, empty ones too. Raises PublishedError."""
    paths = [path for path in sorted(folder.glob("*.yaml")) if path.name != CLAIMS]
    if not paths:
        raise PublishedError(f"no published figures under {folder}")
    papers = [read_checked(path, Paper) for path in paths]
    names = [paper.name for paper in papers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PublishedError(f"{folder}: two files for {', '.join(twice)}; keep one file a paper")
    return papers


@cache
def found_papers() -> Sequence[Paper]:
    """The papers with their tables, read once."""
    return tuple(load_papers())


def read_checked(path: Path, schema: type[Schema]) -> Schema:
    """A YAML file as `schema`. Raises PublishedError: one line with the file and the entry."""
    try:
        content = read_yaml(path)
        return schema.model_validate(content)
    except OSError as error:
        raise PublishedError(f"cannot read {path}: {error.strerror}") from error
    except RepeatedKey as error:
        raise PublishedError(f"{path}: {error}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise PublishedError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        unknown = first["type"] == "extra_forbidden"
        message = _no_key(str(first["loc"][-1])) if unknown else first["msg"].removeprefix("Value error, ")
        raise PublishedError(f"{path}: {_entry(content, first['loc'])}: {message}") from error


def _no_key(word: str) -> str:
    known = sorted({key for each in Strict.__subclasses__() for key in each.model_fields})
    close = get_close_matches(word, known, n=1, cutoff=0.75)  # one of any block is not to be far off
    return f"unknown key; did you mean {close[0]!r}?" if close else "unknown key; leave it out"


def _entry(content: Any, location: tuple[int | str, ...]) -> str:
    """`tables.GLUE.rows.LoRA.values` rather than the entries' numbers."""
    words = []
    for step in location:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            content = None
        named = isinstance(step, int) and isinstance(content, dict)
        word = (
            next((content[key] for key in ("id", "table", "method") if content.get(key)), step)
            if named
            else step
        )
        words.append(str(word))
    return ".".join(words) or "the file"
