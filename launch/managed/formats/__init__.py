"""Formats of training data that AWS's managed customization reads, one file each.

A format is a function from a typed row to a record, which raises `RowError` for a row that the
provider would reject.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from training.config.method_base import RowKind
from training.data.schema.rows import Row

Convert = Callable[[Row], dict[str, Any]]

FORMATS: dict[str, tuple[str, RowKind]] = {
    "converse": ("launch.managed.formats.converse:conversation", "dialogue"),
    "converse-prompts": ("launch.managed.formats.converse:prompt", "prompt"),
    "converse-preference": ("launch.managed.formats.converse:preference", "preference"),
    "prompt-completion": ("launch.managed.formats.prompt_completion:completion", "dialogue"),
    "openai-chat": ("launch.managed.formats.openai_chat:conversation", "dialogue"),
    "openai-prompts": ("launch.managed.formats.openai_chat:prompt", "prompt"),
    "hf-preference": ("launch.managed.formats.hf_preference:preference", "preference"),
    "verl": ("launch.managed.formats.verl:prompt", "prompt"),
}
"""Function and kind of row of each format."""


def converter(name: str) -> tuple[Convert, RowKind]:
    """Return the function of a format, and the kind of row that it takes."""
    address, rows = FORMATS[name]
    module, _, function = address.partition(":")
    convert: Convert = getattr(importlib.import_module(module), function)
    return convert, rows
