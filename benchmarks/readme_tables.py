"""Results page `benchmarks/README.md`: one marked section per benchmark."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PAGE = Path(__file__).with_name("README.md")


def write_section(name: str, markdown: str, page: Path = PAGE) -> None:
    """Replace the text between the markers of section `name`, or append the section.

    Args:
        name: The benchmark's module name.
        markdown: The heading and body.
        page: The file to change.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{markdown.strip()}\n{end}"
    text = page.read_text()
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    exists = marked.search(text)
    text = marked.sub(lambda _: section, text) if exists else f"{text.rstrip()}\n\n{section}\n"
    page.write_text(text)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def circumstances(packages: Sequence[str] = ("torch", "transformers", "trl")) -> str:
    """Return one line with the date, the machine and the versions of a measurement."""
    memory_gib = psutil.virtual_memory().total / 2**30
    python = f"Python {platform.python_version()}"
    versions = ", ".join([python, *(f"{name} {version(name)}" for name in packages)])
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {psutil.cpu_count()} cores "
        f"({platform.machine()}), {memory_gib:.0f} GiB, {versions}."
    )
