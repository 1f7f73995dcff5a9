"""Record of an adapter's base model, stored in the adapter's folder and checked before use.

An adapter can be applied to any model of the same shape; on a base other than its own it generates
nonsense without an error. `base.json` therefore holds a digest of the base's weights.
"""

from __future__ import annotations

import json
from pathlib import Path

from training.errors import ModelError
from training.models.weights_digest import weights_digest

BASE = "base.json"


def write_base_digest(adapter: Path, source: str) -> None:
    """Write the base model of an adapter, with its digest, to the adapter's folder.

    Args:
        adapter: Folder of the adapter.
        source: Folder or Hub id of the base.
    """
    folder = Path(source)
    digest = weights_digest(folder) if any(folder.glob("*.safetensors")) else None
    (adapter / BASE).write_text(json.dumps({"source": source, "digest": digest}) + "\n")


def check_base_digest(adapter: Path, base: Path) -> None:
    """Raise if an adapter was trained on a model other than `base`.

    An adapter without a record (made by another tool) is accepted on any base.

    Raises:
        ModelError: The adapter belongs to another base.
    """
    if not (adapter / BASE).exists():
        return
    recorded = json.loads((adapter / BASE).read_text())
    if recorded["digest"] is not None and recorded["digest"] != weights_digest(base):
        raise ModelError(
            f"the adapter in {adapter} was trained on {recorded['source']}, whose weights are not "
            f"those in {base}. Name the model it was trained on, or train the adapter again"
        )
