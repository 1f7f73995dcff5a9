"""Champion: the registered version in production, which a challenger has to beat."""

from __future__ import annotations

from registry.record import ModelRecord
from registry.store import LocalRegistry


def find_champion(store: LocalRegistry, name: str) -> ModelRecord | None:
    """Return the version of a model in production; None if there is none.

    Args:
        store: The registry.
        name: Name of the model.
    """
    records = [record for record in store.records(name) if record.stage == "production"]
    return records[-1] if records else None
