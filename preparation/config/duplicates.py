"""Section of the step `duplicates`, which compares every row with all others."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training.config.base import ConfigSection


class DuplicatesStep(ConfigSection):
    """Finds exact and near duplicates.

    Candidates share a bucket of MinHash signatures (20 buckets of 5 hashes of 5-word shingles);
    each is then compared with the rows of its cluster that are kept.
    """

    step: Literal["duplicates"]
    action: Literal["report", "drop"] = "report"
    """`drop` keeps the first row of similar ones."""
    similarity: float = Field(default=0.65, ge=0.5, le=1)
    """Least Jaccard similarity of the sets of 5-word shingles of two near duplicates. 1 finds only
    rows with the same shingles."""
