import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from snapcoder.storage.hashing import file_sha256
from snapcoder.storage.tables import (
    Column,
    TableError,
    TableSchema,
    read_table,
    table_metadata,
    write_table,
    write_table_parts,
)

SCHEMA = TableSchema(
    "toy",
    "one thing",
    ("name",),
    (
        Column("name", "string", "–", "its name"),
        Column("size", "float32", "m", "its size", nullable=True, minimum=0),
        Column("kind", "string", "–", "its kind", categories=("a", "b")),
        Column("path", "list<float32>", "m", "where it went", nullable=True),
    ),
)


def frame(**changes):
    values = {"name": ["y", "x"], "size": [1.0, np.nan], "kind": ["a", "b"], "path": [[1.0], [2.0, 3.0]]}
    return pd.DataFrame({**values, **changes})


def test_a_table_comes_back_sorted_typed_and_described(tmp_path):
    path = tmp_path / "toy.parquet"
    write_table(path, frame(), SCHEMA, {"step": "test"})
    back = read_table(path)
    assert list(back["name"]) == ["x", "y"]
    assert back["size"].dtype == np.float32
    assert np.isnan(back["size"][0])
    described = table_metadata(path)
    assert described["key"] == ["name"]
    assert described["columns"]["size"] == {"unit": "m", "definition": "its size"}
    assert json.loads(pq.read_schema(path).metadata[b"snapcoder.provenance"]) == {"step": "test"}


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_table(tmp_path / f"{name}.parquet", frame(), SCHEMA, {"step": "test"})
    assert file_sha256(tmp_path / "a.parquet") == file_sha256(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"size": [-1.0, 2.0]}, "goes below 0"),
        ({"kind": ["a", "c"]}, "undeclared values"),
        ({"name": ["x", "x"]}, "not unique"),
        ({"kind": ["a", None]}, "kind"),
        ({"extra": [1, 2]}, "undeclared columns"),
    ],
)
def test_a_frame_that_breaks_its_schema_is_not_written(tmp_path, changes, said):
    with pytest.raises(TableError, match=said):
        write_table(tmp_path / "toy.parquet", frame(**changes), SCHEMA, {})
    assert list(tmp_path.iterdir()) == []


def test_a_table_written_in_parts_is_the_table_written_at_once(tmp_path):
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    write_table(whole, frame(), SCHEMA, {"step": "test"})
    ordered = frame().sort_values("name")
    write_table_parts(parts, iter([ordered.iloc[:1], ordered.iloc[:0], ordered.iloc[1:]]), SCHEMA, {"step": "test"})
    pd.testing.assert_frame_equal(read_table(parts), read_table(whole))
    assert table_metadata(parts) == table_metadata(whole)
    assert pq.read_schema(parts).metadata == pq.read_schema(whole).metadata
    assert pq.ParquetFile(parts).num_row_groups == 2


@pytest.mark.parametrize("second", ["a", "x"])
def test_parts_out_of_order_or_twice_the_same_are_not_written(tmp_path, second):
    path = tmp_path / "toy.parquet"
    parts = [frame(name=["x", "w"]), frame(name=[second, "z"])]
    with pytest.raises(TableError, match="order parts by"):
        write_table_parts(path, parts, SCHEMA, {})
    assert not path.exists()


def test_only_the_rows_asked_for_are_read(tmp_path):
    write_table(tmp_path / "toy.parquet", frame(), SCHEMA, {})
    assert list(read_table(tmp_path / "toy.parquet", ["size"], where=[("kind", "in", ("a",))])["size"]) == [1.0]


def test_no_parts_are_an_empty_table(tmp_path):
    write_table_parts(tmp_path / "toy.parquet", [], SCHEMA, {})
    assert list(read_table(tmp_path / "toy.parquet").columns) == ["name", "size", "kind", "path"]
    assert len(read_table(tmp_path / "toy.parquet")) == 0
