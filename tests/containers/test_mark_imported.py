"""A bill of materials says which of two versions of a package is imported."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from containers.mark_imported import mark_imported


def test_the_first_on_the_path_is_imported() -> None:
    here = importlib.metadata.version("PyYAML")
    bill: dict[str, Any] = {
        "components": [
            {"name": "pyyaml", "version": here},
            {"name": "PyYAML", "version": "0.1", "properties": [{"name": "a", "value": "b"}]},
            {"name": "pytest", "version": "0"},
        ]
    }
    mark_imported(bill)
    first, second, third = bill["components"]
    assert first["properties"] == [{"name": "temper:imported", "value": "true"}]
    assert second["properties"][1:] == [{"name": "temper:imported", "value": "false"}]
    assert "properties" not in third
