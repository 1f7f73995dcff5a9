"""Rows for data larger than memory, read while training."""

from __future__ import annotations


class StreamTable:
    """To be filled."""
