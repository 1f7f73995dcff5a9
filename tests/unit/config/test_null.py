"""Meaning of an absent key, and of null."""

from __future__ import annotations
