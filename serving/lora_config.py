"""Rank of a LoRA adapter, from its configuration. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def highest_rank(config: Mapping[str, Any]) -> int:
    """Return the highest rank of an adapter, of any of its layers.

    Args:
        config: Content of its `adapter_config.json`.
    """
    ranks = [config.get("r", 1), *(config.get("rank_pattern") or {}).values()]
    return max(int(rank) for rank in ranks)
