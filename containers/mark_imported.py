"""Mark the imported version of each package that an image holds twice, in its bill of materials.

The virtual environment of an image falls back to the packages of the base, so that a package may
be installed in both. Run with the Python of that environment: the first version found is imported.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PROPERTY = "temper:imported"


def mark_imported(bill: dict[str, Any]) -> None:
    """Add the property `temper:imported` to the components of the same name.

    Args:
        bill: CycloneDX document, changed in place.
    """
    components = bill["components"]
    counts = Counter(_normalized(component["name"]) for component in components)
    for component in components:
        if counts[_normalized(component["name"])] < 2:
            continue
        imported = importlib.metadata.version(component["name"]) == component["version"]
        properties = component.setdefault("properties", [])
        properties.append({"name": PROPERTY, "value": str(imported).lower()})


def _normalized(name: str) -> str:
    """Return a package name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    path = Path(sys.argv[1])
    document = json.loads(path.read_text(encoding="utf-8"))
    mark_imported(document)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
