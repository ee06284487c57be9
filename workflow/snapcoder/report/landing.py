"""The page that leads to the layers' pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from snapcoder.report.rendering import render
from snapcoder.storage.hashing import canonical_json


def landing_page(*, study: str, layers: Sequence[int], pages: Sequence[str], core: Mapping[str, Any]) -> str:
    """Return the page that leads to the layers' pages; with a single layer it goes there at once."""
    listed = list(zip(layers, pages, strict=True))
    return render("landing.html", study=study, pages=listed, provenance=canonical_json(core))
