"""What was asked, what was replied, and what it cost: nothing is paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config.judges import Price
from training.errors import RunError
from training.runfolder import write_whole

SPENT = "spent.json"
_CHARACTERS_A_TOKEN = 3.0
"""Cautious: English text has about four (OpenAI's tokenizer documentation)."""


@dataclass(frozen=True)
class Reply:
    """What came back from one call.

    Attributes:
        text: The reply.
        input_tokens: As the endpoint counts them.
        output_tokens: Likewise.
    """

    text: str
    input_tokens: int
    output_tokens: int


class Ledger:
    """The replies of one judge, kept between runs, and what this run has spent on it.

    Args:
        path: A SQLite file; made where there is none.
        folder: The run folder.
        price: What a token costs; None where it costs nothing or is not known.
        max_cost_usd: What this run may spend; None for any sum.
        longest_reply: Tokens.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        price: Price | None,
        max_cost_usd: float | None,
        longest_reply: int,
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Threads share it, one at a time.
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT)"
        )
        self._lock = threading.Lock()
        self._note = folder / SPENT
        self._price = price
        self._max_cost_usd = max_cost_usd
        self._longest_reply = longest_reply
        self._reserved_usd = 0.0
        self.spent: dict[str, Any] = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "usd": 0.0}
        if self._note.exists():
            self.spent |= json.loads(self._note.read_text())

    def known(self, key: str) -> str | None:
        """Return the reply to what was asked before; None where it was not."""
        with self._lock:
            row = self._database.execute(
                "SELECT text FROM replies WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else str(row[0])

    def reserve(self, characters: int) -> float:
        """Set money aside for a call, before it is made, and return how much.

        Args:
            characters: Of the question.

        Raises:
            RunError: The call might cost more than is left.
        """
        usd = self.most_usd(characters)
        with self._lock:
            total = self.spent["usd"] + self._reserved_usd + usd
            if self._max_cost_usd is not None and total > self._max_cost_usd:
                raise RunError(
                    f"the judge's calls have cost {self.spent['usd']:.4f} USD, and the next could "
                    f"exceed resources.max_cost ({self._max_cost_usd:g} USD). Every reply is kept: "
                    f"raise resources.max_cost, and the same command goes on"
                )
            self._reserved_usd += usd
        return usd

    def most_usd(self, characters: int) -> float:
        """Return the most that a call may cost."""
        if self._price is None:
            return 0.0
        tokens = characters / _CHARACTERS_A_TOKEN
        return (tokens * self._price.input + self._longest_reply * self._price.output) / 1e6

    def settle(self, reserved_usd: float, key: str, reply: Reply | None) -> None:
        """Keep a reply and what it cost; None where the call came to nothing."""
        with self._lock:
            self._reserved_usd -= reserved_usd
            if reply is None:
                return
            self._database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, reply.text)
            )
            self.spent["calls"] += 1
            self.spent["input_tokens"] += reply.input_tokens
            self.spent["output_tokens"] += reply.output_tokens
            if self._price is not None:
                paid = reply.input_tokens * self._price.input
                paid += reply.output_tokens * self._price.output
                self.spent["usd"] += paid / 1e6
            write_whole(self._note, json.dumps(self.spent) + "\n")


def key_of(*parts: Any) -> str:
    """Return what a question is known by: everything that decides its reply."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def characters(question: Sequence[dict[str, Any]]) -> int:
    """Return the length of a question."""
    return sum(len(str(message.get("content", ""))) for message in question)
