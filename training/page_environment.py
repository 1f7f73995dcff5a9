"""Jinja environment of the HTML reports: escaped, strict, without external resources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment


def page_environment(*folders: Path, **filters: Callable[..., Any]) -> Environment:
    """Return the environment of the templates in some folders.

    Args:
        folders: Folders of the templates, in the order in which they are searched.
        filters: Filters that the templates use, by name.
    """
    # Imported here: it takes a tenth of a second, and starting a run does not need it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters)
    return environment
