"""Keys of a job with other values, as `temper` takes them after `--set`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any


def override_words(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return `key=value` words, each quoted as for a shell; values are written as YAML."""
    return tuple(shlex.quote(f"{key}={_text(value)}") for key, value in values.items())


def _text(value: Any) -> str:
    # JSON is YAML; a text stays as it is written, so that `1.0e-3` remains a number.
    return value if isinstance(value, str) else json.dumps(value)
