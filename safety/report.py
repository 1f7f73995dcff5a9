"""A report for people, in one file that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent


def write_page(report: dict[str, Any], path: Path, template: str = "redteam.html.jinja") -> None:
    """Write a report's page.

    Args:
        report: What was measured, maybe with a `before` of the same form.
        path: The file.
        template: Its form.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path.write_text(environment.get_template(template).render(report=report), encoding="utf-8")
