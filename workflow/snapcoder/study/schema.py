"""The JSON schema of a study, generated from its dataclasses, and the reference page made from it."""

import dataclasses
import types
import typing
from typing import Any

from snapcoder.study.study import Study

_PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean"}


def config_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of one configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Snapcoder study",
        **_object(Study),
    }


def _object(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "additionalProperties": False,
        "default": {},
        "properties": {field.name: _property(field, hints[field.name]) for field in dataclasses.fields(kind)},
    }


def _property(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    meta = field.metadata
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return {**_object(hint), "description": meta["doc"]}
    described: dict[str, Any] = {"description": meta["doc"], "default": _plain(field.default)}
    if meta["unit"]:
        described["unit"] = meta["unit"]
    return {**described, **_type(hint, meta)}


def _type(hint: Any, meta: Any) -> dict[str, Any]:
    bounds: dict[str, Any] = {key: meta[key] for key in ("minimum", "maximum") if meta[key] is not None}
    if meta["choices"]:
        bounds["enum"] = list(meta["choices"])
    if isinstance(hint, types.UnionType):
        (inner,) = [option for option in typing.get_args(hint) if option is not type(None)]
        if "enum" in bounds:
            bounds["enum"] = [*bounds["enum"], None]
        return {"type": [_PLAIN[inner], "null"], **bounds}
    if typing.get_origin(hint) is tuple:
        items = {"type": _PLAIN[typing.get_args(hint)[0]], **bounds}
        return {"type": "array", "items": items, **({"uniqueItems": True} if meta["unique"] else {})}
    return {"type": _PLAIN[hint], **bounds}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def config_reference() -> str:
    """Return config/README.md: every key with its type, default, bounds, unit and meaning."""
    lines = [
        "# Configuration reference",
        "",
        "Generated from the settings in `workflow/snapcoder/study/` by `snapcoder schema --write`; do not edit.",
        "",
        "A study is one YAML file. Every key has a default, so a file holds only what differs from it.",
        "`config/config.yaml` is the study that plain `make` or `snakemake` runs; run another one with",
        "`snakemake --configfile config/<name>.yaml --cores all`. Keys of `config/config.yaml` hold wherever your file is",
        "silent. A wrong key, type or impossible value stops before anything runs, with one line that names it.",
        "",
    ]
    schema = config_schema()
    top = {key: value for key, value in schema["properties"].items() if value.get("type") != "object"}
    lines += ["| key | default | bounds | meaning |", "|---|---|---|---|", *_rows("", top), ""]
    for name, section in schema["properties"].items():
        if section.get("type") == "object":
            lines += [f"## {name}", "", section["description"], ""]
            lines += [
                "| key | default | bounds | meaning |",
                "|---|---|---|---|",
                *_rows(f"{name}.", section["properties"]),
                "",
            ]
    return "\n".join(lines)


def _rows(prefix: str, properties: dict[str, Any]) -> list[str]:
    rows = []
    for name, value in properties.items():
        if value.get("type") == "object":
            rows += _rows(f"{prefix}{name}.", value["properties"])
            continue
        unit = f" *[{value['unit']}]*" if value.get("unit") else ""
        rows.append(
            f"| `{prefix}{name}` | `{_shown(value['default'])}` | {_bounds(value)} | {value['description']}{unit} |"
        )
    return rows


def _shown(default: Any) -> str:
    if default is None:
        return "empty"
    if isinstance(default, list):
        return "[" + ", ".join(str(item) for item in default) + "]"
    return str(default).lower() if isinstance(default, bool) else str(default) if default != "" else "''"


def _bounds(value: dict[str, Any]) -> str:
    inner = value.get("items", value)
    kind = inner["type"] if isinstance(inner["type"], str) else inner["type"][0]
    parts = [f"list of {kind}" if value["type"] == "array" else kind]
    if "enum" in inner:
        parts = [" or ".join(f"`{option}`" for option in inner["enum"] if option is not None)]
    if "minimum" in inner or "maximum" in inner:
        parts.append(f"{inner.get('minimum', '−∞')} … {inner.get('maximum', '∞')}")
    return ", ".join(parts)
