"""Templates and assets of the pages."""

from pathlib import Path
from typing import Any

import jinja2

_HERE = Path(__file__).parent
ASSETS = ("report.css", "report.js")


def render(template: str, **values: Any) -> str:
    """Fill one of the templates; everything is escaped, and an undefined value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def asset(name: str) -> str:
    """Return the text of a stylesheet or script that lies beside the page."""
    return (_HERE / "static" / name).read_text(encoding="utf-8")
