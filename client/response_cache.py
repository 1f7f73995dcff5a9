"""Cache of answers: a call that was answered before is not sent again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from client.chat import ChatCall, ModelReply, TokenUsage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
  key TEXT PRIMARY KEY, reply TEXT NOT NULL, stored REAL NOT NULL, used REAL NOT NULL
)
"""


class ResponseCache:
    """Cache of the answers to calls.

    Only answers that would be given again are kept: greedy ones, or those with a seed
    (`ChatCall.is_deterministic`). Calls are equal if all that determines an answer is: endpoint,
    conversation, settings. `max_tokens` is compared by its effect: an answer that ended by itself
    also answers a call with another limit that it fits, and one that was cut answers a call with
    the same limit.

    A key is a digest; answers are stored as they came, so with placeholders if the client masks.

    Args:
        path: SQLite file, readable by its owner alone; None keeps answers in this process.
        max_entries: Answers that are kept; the ones that were not used for longest are dropped.
        ttl_s: Seconds that an answer is kept; None for no limit.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        max_entries: int = 10_000,
        ttl_s: float | None = 86_400.0,
        clock: Callable[[], float] = time.time,
    ):
        self._path = None if path is None else Path(path)
        self._max_entries, self._ttl_s, self._clock = max_entries, ttl_s, clock
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._process = 0

    def get(self, identity: tuple[str, ...], call: ChatCall) -> ModelReply | None:
        """Return the answer to a call, or None.

        Args:
            identity: Identity of the endpoint.
            call: The call.
        """
        now = self._clock()
        with self._lock:
            database = self._open()
            for key in (_key(identity, call, None), _key(identity, call, call.max_tokens)):
                row = database.execute(
                    "SELECT reply, stored FROM replies WHERE key = ?", (key,)
                ).fetchone()
                if row is None or (self._ttl_s is not None and row[1] + self._ttl_s < now):
                    continue
                reply = _reply(row[0])
                limit = call.max_tokens
                if limit is None or reply.usage.output <= limit:
                    database.execute("UPDATE replies SET used = ? WHERE key = ?", (now, key))
                    return reply
        return None

    def put(self, identity: tuple[str, ...], call: ChatCall, reply: ModelReply) -> None:
        """Store the answer to a call.

        Args:
            identity: Identity of the endpoint.
            call: The call.
            reply: Its answer.
        """
        # Without the number of its tokens, it is not known which limits an answer fits.
        ended = reply.finish_reason in ("stop", "tool_calls") and reply.usage.output > 0
        key = _key(identity, call, None if ended else call.max_tokens)
        now = self._clock()
        with self._lock:
            database = self._open()
            text = json.dumps(dataclasses.asdict(reply))
            database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", (key, text, now, now)
            )
            database.execute(
                "DELETE FROM replies WHERE key IN "
                "(SELECT key FROM replies ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (self._max_entries,),
            )

    def _open(self) -> sqlite3.Connection:
        """Return the connection of this process; one of a parent process must not be used."""
        if self._database is None or self._process != os.getpid():
            target = ":memory:"
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.touch(mode=0o600)
                target = str(self._path)
            self._database = sqlite3.connect(
                target, check_same_thread=False, isolation_level=None, timeout=10
            )
            self._database.execute(_SCHEMA)
            self._database.execute("CREATE INDEX IF NOT EXISTS by_use ON replies (used)")
            self._process = os.getpid()
        return self._database


def call_key(identity: tuple[str, ...], call: ChatCall) -> str:
    """Return a digest of all that determines the answer to a call.

    Args:
        identity: Identity of the endpoint.
        call: The call.
    """
    return _key(identity, call, call.max_tokens)


def _key(identity: tuple[str, ...], call: ChatCall, max_tokens: int | None) -> str:
    settings = [call.temperature, call.top_p, call.stop, call.seed, dict(call.extra), max_tokens]
    parts = [identity, [dict(message) for message in call.messages], settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _reply(text: str) -> ModelReply:
    values = json.loads(text)
    usage = TokenUsage(**values.pop("usage"))
    return ModelReply(**{**values, "usage": usage, "tool_calls": tuple(values["tool_calls"])})
