"""Model that a provider keeps: a file in `model/` of the run that names it, in place of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.export.checksums import write_checksums
from training.export.managed_model import MANAGED_MODEL


def write_managed_model(run: Path, facts: Mapping[str, Any]) -> Path:
    """Write the file of a run's model, with its checksum, and return it."""
    folder = run / "model"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANAGED_MODEL
    path.write_text(json.dumps(dict(facts), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    write_checksums(folder)
    return path
