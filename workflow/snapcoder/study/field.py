"""How a setting is declared: default, description, unit and bounds in one place."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
    unique: bool = False,
) -> Any:
    """Declare a dataclass field with its documentation and the bounds that the JSON schema will check.

    Bounds on a tuple apply to its items.
    """
    metadata = {
        "doc": doc,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "unique": unique,
    }
    if dataclasses.is_dataclass(default) and isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def from_mapping(kind: type, values: Mapping[str, Any]) -> Any:
    """Build the dataclass `kind` from nested plain values; lists become tuples. Missing keys take their defaults."""
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            value = from_mapping(hint, value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[key] = value
    return kind(**arguments)
