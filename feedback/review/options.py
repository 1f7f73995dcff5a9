"""Options of `temper review`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReviewOptions:
    """Options of `temper review`.

    Attributes:
        pairs: Pairs to review, as JSON Lines.
        out: File of the labels; `labels.jsonl` next to the pairs if not given.
        overlap: Share of the pairs that two people judge.
        host: Address to listen on.
        port: Port; 0 for a free one.
        key: Key that people enter; required for an address that other machines reach.
    """

    pairs: Path
    out: Path | None = None
    overlap: float = 0.1
    host: str = "127.0.0.1"
    port: int = 8300
    key: str = ""

    @property
    def labels(self) -> Path:
        """File of the labels."""
        return self.out or self.pairs.with_name("labels.jsonl")
