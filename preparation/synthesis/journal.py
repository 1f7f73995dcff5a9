"""Append-only journal of the replies to requests, from which a stopped synthesis resumes."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.reply_cache import JudgeReply
from training.run_folder import write_whole

OnReply = Callable[[list[Message], JudgeReply], None]
"""Called with a question and its reply as soon as it is known."""


class RequestJournal:
    """Journal with one line for each answered request, each with its checksum.

    A request is identified by the digest of everything that determines its reply. A line that is
    in the file is never requested again.

    Args:
        path: JSON Lines file; created if it does not exist.

    Raises:
        RunError: A line was altered.
    """

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._replies: dict[str, JudgeReply] = {}
        self._read()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def __contains__(self, key: str) -> bool:
        """Return True if the request was answered."""
        return key in self._replies

    def __getitem__(self, key: str) -> JudgeReply:
        """Return the reply to a request."""
        return self._replies[key]

    def __len__(self) -> int:
        """Return the number of answered requests."""
        return len(self._replies)

    def digest(self) -> str:
        """Return a digest of all requests, in any order of their replies."""
        return hashlib.sha256("".join(sorted(self._replies)).encode()).hexdigest()

    def record(self, key: str, role: str, reply: JudgeReply) -> None:
        """Append a reply, flushed to the disk.

        Args:
            key: Digest of the request.
            role: Model that replied: `teacher` or `judge`.
            reply: The reply.
        """
        entry = {
            "key": key,
            "role": role,
            "text": reply.text,
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "truncated": reply.truncated,
        }
        line = json.dumps({**entry, "checksum": _checksum(entry)})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._replies[key] = reply

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> None:
        """Read the replies; an incomplete last line, left by a killed process, is cut off.

        Raises:
            RunError: A line was altered.
        """
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        end = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:end].split(b"\n")[:-1], start=1):
            entry = _parse(line)
            if entry is None:
                raise RunError(
                    f"{self._path}, line {number}: the line was altered, its checksum differs. "
                    f"Delete the line to request its reply again, and run the same command"
                )
            self._replies[entry["key"]] = JudgeReply(
                entry["text"],
                entry["input_tokens"],
                entry["output_tokens"],
                truncated=entry["truncated"],
            )
        if end < len(content):
            write_whole(self._path, content[:end].decode("ascii", "replace"))


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; None if its checksum differs."""
    try:
        entry: dict[str, Any] = json.loads(line)
        checksum = entry.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return entry if checksum == _checksum(entry) else None


def _checksum(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
