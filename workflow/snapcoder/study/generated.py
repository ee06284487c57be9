"""Files of the repository that are generated from declarations: schemas of configuration and tables, and the reference."""

import json
from typing import Any

from snapcoder.storage.tables import TableSchema
from snapcoder.study.schema import config_reference, config_schema
from snapcoder.tables.catalogue import TABLES


def generated_files() -> dict[str, str]:
    """Return path → text of every generated file, relative to the repository."""
    files = {
        "workflow/schemas/config.schema.json": _json(config_schema()),
        "config/README.md": config_reference() + "\n",
    }
    files["docs/tables.md"] = _table_reference()
    for name, schema in sorted(TABLES.items()):
        files[f"workflow/schemas/tables/{name}.json"] = _json(_table_schema(schema))
    return files


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _table_schema(schema: TableSchema) -> dict[str, Any]:
    columns = []
    for column in schema.columns:
        described: dict[str, Any] = {"name": column.name, "type": column.dtype, "unit": column.unit}
        described |= {"definition": column.definition, "nullable": column.nullable}
        if column.categories:
            described["categories"] = list(column.categories)
        described |= {key: getattr(column, key) for key in ("minimum", "maximum") if getattr(column, key) is not None}
        columns.append(described)
    return {"table": schema.name, "row": schema.row, "key": list(schema.key), "columns": columns}


def _table_reference() -> str:
    lines = [
        "# Tables",
        "",
        "Generated from `workflow/snapcoder/tables/` by `snapcoder schema --write`; do not edit. The same definitions and units",
        "are inside every parquet file, as field metadata. Missing values mean *undefined*, never a sentinel.",
        "",
    ]
    for name, schema in sorted(TABLES.items()):
        lines += [f"## {name}", "", f"One row: {schema.row}. Key: {', '.join(schema.key)}.", ""]
        lines += ["| column | type | unit | definition |", "|---|---|---|---|"]
        for column in schema.columns:
            kind = column.dtype + (" (may be missing)" if column.nullable else "")
            kind = kind.replace("<", "&lt;")
            lines.append(f"| `{column.name}` | {kind} | {column.unit} | {column.definition} |".replace("|x|", "abs x"))
        lines.append("")
    return "\n".join(lines)
