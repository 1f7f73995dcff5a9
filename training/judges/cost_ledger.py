"""What was asked, what was replied, and what it cost: nothing is paid for twice."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from training.config.judges import TokenPrice
from training.errors import RunError
from training.run_folder import write_whole

SPENT = "spent.json"
_NOTHING = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "usd": 0.0}
_CHARACTERS_A_TOKEN = 3.0
"""Cautious: English text has about four (OpenAI's tokenizer documentation)."""


@dataclass(frozen=True)
class JudgeReply:
    """What came back from one call.

    Attributes:
        text: The reply.
        input_tokens: As the endpoint counts them.
        output_tokens: Likewise.
        cut: Whether it was cut at the longest length.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False


class ReplyCache:
    """Replies by what was asked, kept between runs.

    Args:
        path: A SQLite file; made where there is none.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Threads share it, one at a time.
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, cut INTEGER)"
        )
        columns = self._database.execute("PRAGMA table_info(replies)")
        if "cut" not in {row[1] for row in columns}:
            # Kept before this was noted, and paid for.
            self._database.execute("ALTER TABLE replies ADD COLUMN cut INTEGER")

    def known(self, key: str) -> JudgeReply | None:
        """Return the reply to what was asked before; None where it was not."""
        with self._lock:
            row = self._database.execute(
                "SELECT text, cut FROM replies WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else JudgeReply(str(row[0]), cut=bool(row[1]))

    def keep(self, key: str, reply: JudgeReply) -> None:
        """Keep a reply."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, reply.text, reply.cut)
            )


class CostLedger:
    """The replies of one judge, kept between runs, and what this run has spent on it.

    Args:
        path: A SQLite file; made where there is none.
        folder: The run folder.
        price: What a token costs; None where it costs nothing or is not known.
        max_cost_usd: What this run may spend; None for any sum.
        longest_reply: Tokens.
        called: What it is in messages.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        price: TokenPrice | None,
        max_cost_usd: float | None,
        longest_reply: int,
        called: str = "judge",
    ):
        self._replies = ReplyCache(path)
        self._lock = threading.Lock()
        self._note = folder / SPENT
        self._rank = os.environ.get("RANK", "0")
        self._price = price
        self._max_cost_usd = max_cost_usd
        self._longest_reply = longest_reply
        self._called = called
        folder.mkdir(parents=True, exist_ok=True)
        # What an earlier process of this rank had set aside is free again.
        with self._account() as account:
            account["reserved_usd"][self._rank] = 0.0

    @property
    def spent(self) -> dict[str, Any]:
        """What this run has spent so far: calls, tokens and USD, of all its processes."""
        return {k: v for k, v in self._read().items() if k != "reserved_usd"}

    def _read(self) -> dict[str, Any]:
        account: dict[str, Any] = {**_NOTHING, "reserved_usd": {}}
        if self._note.exists():
            account |= json.loads(self._note.read_text())
        return account

    @contextmanager
    def _account(self) -> Iterator[dict[str, Any]]:
        """Give the run's account to be changed, to one thread of one process at a time."""
        with self._lock, FileLock(self._note.with_name(f".{SPENT}.lock")):
            account = self._read()
            yield account
            write_whole(self._note, json.dumps(account) + "\n")

    def known(self, key: str) -> JudgeReply | None:
        """Return the reply to what was asked before; None where it was not."""
        return self._replies.known(key)

    def reserve(self, characters: int) -> float:
        """Set money aside for a call, before it is made, and return how much.

        Args:
            characters: Of the question.

        Raises:
            RunError: The call might cost more than is left.
        """
        usd = self.most_usd(characters)
        if not usd:
            return 0.0
        with self._account() as account:
            total = account["usd"] + sum(account["reserved_usd"].values()) + usd
            if self._max_cost_usd is not None and total > self._max_cost_usd:
                raise RunError(
                    f"the {self._called}'s calls have cost {account['usd']:.4f} USD, and the "
                    f"next could exceed resources.max_cost ({self._max_cost_usd:g} USD). Every "
                    f"reply is kept: raise resources.max_cost, and the same command goes on"
                )
            account["reserved_usd"][self._rank] += usd
        return usd

    def most_usd(self, characters: int) -> float:
        """Return the most that a call may cost."""
        if self._price is None:
            return 0.0
        tokens = characters / _CHARACTERS_A_TOKEN
        return (tokens * self._price.input + self._longest_reply * self._price.output) / 1e6

    def settle(self, reserved_usd: float, key: str, reply: JudgeReply | None) -> None:
        """Keep a reply and what it cost; None where the call came to nothing."""
        with self._account() as account:
            account["reserved_usd"][self._rank] -= reserved_usd
            if reply is None:
                return
            self._replies.keep(key, reply)
            account["calls"] += 1
            account["input_tokens"] += reply.input_tokens
            account["output_tokens"] += reply.output_tokens
            if self._price is not None:
                paid = reply.input_tokens * self._price.input
                paid += reply.output_tokens * self._price.output
                account["usd"] += paid / 1e6


def key_of(*parts: Any) -> str:
    """Return what a question is known by: everything that decides its reply."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def characters(question: Sequence[dict[str, Any]]) -> int:
    """Return the length of a question."""
    return sum(len(str(message.get("content", ""))) for message in question)
