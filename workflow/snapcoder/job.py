"""What a step gets to know: its named inputs, outputs and settings, and the provenance core to embed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from snapcoder.study.field import from_mapping

Section = TypeVar("Section")


@dataclass(frozen=True)
class Job:
    """One run of one step.

    inputs and outputs map the names used in the rule to paths, in the order given. `core` is the deterministic half
    of the provenance record; writers embed it in every file.
    """

    step: str
    inputs: Mapping[str, tuple[Path, ...]]
    outputs: Mapping[str, tuple[Path, ...]]
    settings: Mapping[str, Any]
    threads: int
    core: Mapping[str, Any]

    def path(self, name: str) -> Path:
        """Return the only input called `name`."""
        (path,) = self.inputs[name]
        return path

    def paths(self, name: str) -> tuple[Path, ...]:
        """Return all inputs called `name`; empty when there are none."""
        return self.inputs.get(name, ())

    def output(self, name: str) -> Path:
        """Return the only output called `name`."""
        (path,) = self.outputs[name]
        return path

    def section(self, name: str, kind: type[Section]) -> Section:
        """Return one section of the settings as its dataclass."""
        return from_mapping(kind, self.settings[name])

    def value(self, name: str) -> Any:
        """Return one plain value of the settings."""
        return self.settings[name]


def parse_settings(text: str) -> dict[str, Any]:
    """Parse the settings that a rule passes as JSON."""
    settings = json.loads(text)
    if not isinstance(settings, dict):
        raise ValueError(f"--settings: expected a JSON object, got {type(settings).__name__}")
    return settings
