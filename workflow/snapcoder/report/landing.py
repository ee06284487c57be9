"""The page that leads to the layers' pages."""

from collections.abc import Sequence

from snapcoder.report.rendering import render


def landing_page(*, study: str, layers: Sequence[int], pages: Sequence[str]) -> str:
    """Return the page that leads to the layers' pages; with a single layer it goes there at once."""
    return render("landing.html", study=study, pages=list(zip(layers, pages, strict=True)))
