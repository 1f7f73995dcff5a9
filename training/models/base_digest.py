"""Which model an adapter was trained on, kept in the adapter's folder and checked before use.

An adapter fits any model of the same shape, and on another than its own it says nonsense without an
error. `base.json` holds a digest of the base's weights.
"""

from __future__ import annotations

import json
from pathlib import Path

from training.errors import ModelError
from training.models.safetensors_io import weights_digest

BASE = "base.json"


def write_base_digest(adapter: Path, source: str) -> None:
    """Write which model an adapter was trained on into the adapter's folder.

    Args:
        adapter: Its folder.
        source: The model's folder or Hub id.
    """
    folder = Path(source)
    digest = weights_digest(folder) if any(folder.glob("*.safetensors")) else None
    (adapter / BASE).write_text(json.dumps({"source": source, "digest": digest}) + "\n")


def check_base_digest(adapter: Path, base: Path) -> None:
    """Raise when an adapter was trained on another model than `base`.

    Where nothing was noted (an adapter of other making), any model of its shape is taken.

    Raises:
        ModelError: Names both.
    """
    if not (adapter / BASE).exists():
        return
    noted = json.loads((adapter / BASE).read_text())
    if noted["digest"] is not None and noted["digest"] != weights_digest(base):
        raise ModelError(
            f"the adapter in {adapter} was trained on {noted['source']}, whose weights are not "
            f"those in {base}. Name the model it was trained on, or train the adapter again"
        )
