"""Cache of judges' replies, shared by runs."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class JudgeReply:
    """Reply to one call.

    Attributes:
        text: Text of the reply.
        input_tokens: Prompt tokens, as the endpoint counts them.
        output_tokens: Generated tokens, as the endpoint counts them.
        truncated: True if the reply ended at the token limit.
        too_long: True if the question did not fit the model's context; such a reply has no text
            and is not cached, since the context may be larger the next time.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    truncated: bool = False
    too_long: bool = False


class ReplyCache:
    """SQLite cache of replies, shared by runs.

    Args:
        path: SQLite file; created if it does not exist.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The threads of a judge share one connection; `_lock` serializes their use of it.
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, cut INTEGER)"
        )
        columns = self._database.execute("PRAGMA table_info(replies)")
        if "cut" not in {row[1] for row in columns}:
            # A cache from before truncation was recorded: its replies were paid for, so keep them.
            self._database.execute("ALTER TABLE replies ADD COLUMN cut INTEGER")

    def get(self, key: str) -> JudgeReply | None:
        """Return the cached reply, or None."""
        with self._lock:
            row = self._database.execute(
                "SELECT text, cut FROM replies WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else JudgeReply(str(row[0]), truncated=bool(row[1]))

    def put(self, key: str, reply: JudgeReply) -> None:
        """Store a reply."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?)",
                (key, reply.text, reply.truncated),
            )


def reply_key(*parts: Any) -> str:
    """Return the cache key of a reply: the hash of everything that determines it."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
