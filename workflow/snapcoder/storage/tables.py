"""Parquet tables with a declared schema: every column has a type, a unit and a definition, inside the file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from snapcoder.storage.atomic import atomic_path
from snapcoder.storage.hashing import canonical_json

TYPES: Mapping[str, pa.DataType] = {
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "list<float32>": pa.list_(pa.float32()),
    "list<int32>": pa.list_(pa.int32()),
    "list<string>": pa.list_(pa.string()),
}


class TableError(ValueError):
    """A table that does not fit its declared schema."""


@dataclass(frozen=True)
class Column:
    """One column: its type (a key of `TYPES`), unit and definition, and the values it may hold."""

    name: str
    dtype: str
    unit: str
    definition: str
    nullable: bool = False
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class TableSchema:
    """A table: what one row is, which columns identify it, and its columns in order."""

    name: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def arrow(self) -> pa.Schema:
        """Return the Arrow schema, with unit and definition as field metadata."""
        return pa.schema(
            [
                pa.field(
                    column.name,
                    TYPES[column.dtype],
                    nullable=column.nullable,
                    metadata={"unit": column.unit, "definition": column.definition},
                )
                for column in self.columns
            ]
        )

    def problems(self, table: pa.Table) -> list[str]:
        """Return every way in which `table` breaks this schema, each as one line; empty when it is valid."""
        expected = {column.name: TYPES[column.dtype] for column in self.columns}
        actual = {field.name: field.type for field in table.schema}
        found = [f"{self.name}: column {name} is missing" for name in expected.keys() - actual.keys()]
        found += [f"{self.name}: column {name} is not declared" for name in actual.keys() - expected.keys()]
        for name in expected.keys() & actual.keys():
            if actual[name] != expected[name]:
                found.append(f"{self.name}: column {name} is {actual[name]}, declared {expected[name]}")
        if found:
            return sorted(found)
        frame = table.to_pandas()
        for column in self.columns:
            found += _value_problems(self.name, column, frame[column.name])
        if self.key and frame.duplicated(list(self.key)).any():
            found.append(f"{self.name}: rows are not unique in {', '.join(self.key)}")
        return found


def _value_problems(table: str, column: Column, values: pd.Series) -> list[str]:
    found = []
    present = values.dropna()
    if len(present) < len(values) and not column.nullable:
        found.append(f"{table}: column {column.name} has missing values")
    if column.categories and not present.isin(column.categories).all():
        odd = sorted(set(present) - set(column.categories))
        found.append(f"{table}: column {column.name} holds undeclared values {odd[:3]}")
    if column.minimum is not None and (present < column.minimum).any():
        found.append(f"{table}: column {column.name} goes below {column.minimum}")
    if column.maximum is not None and (present > column.maximum).any():
        found.append(f"{table}: column {column.name} goes above {column.maximum}")
    return found


def write_table(path: str | Path, frame: pd.DataFrame, schema: TableSchema, provenance: Mapping[str, Any]) -> None:
    """Write `frame` as parquet, sorted by the schema's key, with definitions, units and provenance in its metadata.

    Columns are cast to their declared types and put in the declared order.
    Raises `TableError` naming the first offending column when the frame does not fit.
    """
    table = _fitted(frame, schema).replace_schema_metadata(_metadata(schema, provenance))
    with atomic_path(path) as part:
        pq.write_table(table, part, compression="zstd")


def write_table_parts(
    path: str | Path, parts: Iterable[pd.DataFrame], schema: TableSchema, provenance: Mapping[str, Any]
) -> None:
    """Write a table too long for memory part by part; parts come in the order of the schema's key.

    Each part is sorted and checked like a table of `write_table`; an empty part is passed over.
    Raises `TableError` when a part does not fit, or does not begin behind the end of the part before it.
    """
    described = schema.arrow().with_metadata(_metadata(schema, provenance))
    key, last = list(schema.key), None
    with atomic_path(path) as file, pq.ParquetWriter(file, described, compression="zstd") as writer:
        for frame in parts:
            table = _fitted(frame, schema)
            if not table.num_rows:
                continue
            ends = [tuple(table.slice(i, 1).select(key).to_pylist()[0].values()) for i in (0, table.num_rows - 1)]
            if last is not None and ends[0] <= last:
                raise TableError(f"{schema.name}: a part begins at {ends[0]}, not behind {last}; order parts by {key}")
            last = ends[1]
            writer.write_table(table.replace_schema_metadata(described.metadata))


def _metadata(schema: TableSchema, provenance: Mapping[str, Any]) -> dict[str, str]:
    return {
        "snapcoder.table": canonical_json({"name": schema.name, "row": schema.row, "key": list(schema.key)}),
        "snapcoder.provenance": canonical_json(provenance),
    }


def _fitted(frame: pd.DataFrame, schema: TableSchema) -> pa.Table:
    """Return `frame` sorted, cast and put in order as the schema says; raises `TableError` when it does not fit."""
    names = [column.name for column in schema.columns]
    missing = [name for name in names if name not in frame.columns]
    extra = [name for name in frame.columns if name not in names]
    if missing or extra:
        raise TableError(f"{schema.name}: missing columns {missing}, undeclared columns {extra}")
    ordered = frame[names]
    if schema.key:
        ordered = ordered.sort_values(list(schema.key), kind="stable")
    try:
        table = pa.Table.from_pandas(ordered, schema=schema.arrow(), preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise TableError(f"{schema.name}: {error}") from error
    problems = schema.problems(table)
    if problems:
        raise TableError(problems[0])
    return table


def read_table(
    path: str | Path, columns: list[str] | None = None, *, where: list[tuple[str, str, Any]] | None = None
) -> pd.DataFrame:
    """Read a table, some of its columns, or the rows `where` (column, operator, value) all hold, as a pandas frame."""
    return pq.read_table(path, columns=columns, filters=where, partitioning=None).to_pandas()


def joined(frames: Sequence[pd.DataFrame], schema: TableSchema) -> pd.DataFrame:
    """Return the rows of all frames in one; with none, a frame that has the schema's columns and no row."""
    filled = [frame for frame in frames if len(frame)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return pd.DataFrame(columns=[column.name for column in schema.columns])


def table_metadata(path: str | Path) -> dict[str, Any]:
    """Return what a table says of itself: name, row, key, and per column its unit and definition."""
    schema = pq.read_schema(path)
    described = json.loads((schema.metadata or {}).get(b"snapcoder.table", b"{}"))
    described["columns"] = {
        field.name: {key.decode(): value.decode() for key, value in (field.metadata or {}).items()} for field in schema
    }
    return described
