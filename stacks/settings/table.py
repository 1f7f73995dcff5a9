"""Table of all settings with their defaults, as in docs/platform/settings.md.

Run `python -m stacks.settings.table`; a test compares the page with the output.
"""

import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stacks.settings.environment import Environment


def rows(model: type[BaseModel] = Environment, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the name, the default and the description of every setting, depth first."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from rows(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _default(field), field.description or ""


def table() -> str:
    """Return the rows as a Markdown table."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {what} |" for name, default, what in rows()]
    return "\n".join(lines)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"`{_plain(field.get_default(call_default_factory=True))}`"


def _plain(value: Any) -> str:
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, BaseModel):
        return "on"
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
