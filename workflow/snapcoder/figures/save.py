"""Turn a figure into bytes: the same figure and provenance give the same bytes."""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from snapcoder.figures.style import house_style
from snapcoder.storage.hashing import canonical_json

DPI = 110


def figure_bytes(figure: Figure, *, provenance: Mapping[str, Any], title: str) -> tuple[bytes, bytes]:
    """Return the figure as SVG and as PNG, with the provenance inside.

    SVG: in <metadata>, as dc:description. PNG: in a text chunk called "provenance". Neither holds a date.
    """
    text = canonical_json(provenance)
    with house_style():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout is settled: do not solve it again for each format
        svg, png = figure_svg(figure, provenance=provenance, title=title), io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None, "provenance": text}, dpi=DPI)
    return svg, png.getvalue()


def figure_svg(figure: Figure, *, provenance: Mapping[str, Any], title: str) -> bytes:
    """Return the figure as SVG alone, with the provenance inside."""
    svg = io.BytesIO()
    meta = {"Date": None, "Creator": "snapcoder", "Title": title, "Description": canonical_json(provenance)}
    with house_style():
        figure.savefig(svg, format="svg", metadata=meta, dpi=DPI)
    return svg.getvalue()
