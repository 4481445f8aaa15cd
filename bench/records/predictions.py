"""Predictions of a run as a file: small, because every run leaves one."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
from pyarrow import parquet


def packed(predictions: pd.DataFrame) -> bytes:
    """One row an item, as Parquet that any reader takes.

    A column of numbers is written in single precision where that holds every one of them: what a network
    answers is, so nothing is lost. The numbers' first bytes lie together, then their second ones, and so on:
    zstd finds more in that.
    """
    table = pa.Table.from_pandas(predictions, preserve_index=False)
    table = pa.table({name: _narrowed(table[name]) for name in table.column_names})
    stream = pa.BufferOutputStream()
    parquet.write_table(
        table,
        stream,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        use_byte_stream_split=[leaf for field in table.schema for leaf in _leaf_of_numbers(field)],
        write_statistics=False,
        store_schema=False,
    )
    return stream.getvalue().to_pybytes()


def _narrowed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in single precision, or as it is if that changed a number."""
    single = {pa.float64(): pa.float32(), pa.list_(pa.float64()): pa.list_(pa.float32())}.get(column.type)
    if single is None:
        return column
    narrow = column.cast(single)
    return narrow if narrow.cast(column.type).equals(column) else column


def _leaf_of_numbers(field: pa.Field) -> list[str]:
    """What Parquet calls the numbers of a column, of one each or of lists; none of text."""
    nested = pa.types.is_list(field.type)
    kind = field.type.value_type if nested else field.type
    numbers = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    return [f"{field.name}.list.element" if nested else field.name] if numbers else []
