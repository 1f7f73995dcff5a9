from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def minimal() -> dict[str, Any]:
    """The least a job can say."""
    return {
        "name": "minimal",
        "model": {"source": "owner/model"},
        "data": {"train": "rows.jsonl"},
        "method": {"kind": "sft"},
    }
