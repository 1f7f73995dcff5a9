"""HTML reports: one self-contained file without external resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.page_environment import page_environment

_TEMPLATES = Path(__file__).parent


def write_page(report: dict[str, Any], path: Path, template: str = "redteam.html.jinja") -> None:
    """Write a report as an HTML page.

    Args:
        report: Results, with those of another model in `before` if it was compared.
        path: The file to write.
        template: Name of the template.
    """
    environment = page_environment(_TEMPLATES)
    path.write_text(environment.get_template(template).render(report=report), encoding="utf-8")
