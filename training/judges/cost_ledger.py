"""Cost account of remote judges: no reply is paid for twice, and no limit is exceeded.

The reply cache is shared by runs. The account (`spent.json` in the run folder) belongs to one run
and all of its processes. The cost of a call is reserved before the call begins, so that calls in
flight cannot exceed the limit together.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from training.config.judges import TokenPrice
from training.errors import RunError
from training.judges.reply_cache import JudgeReply, ReplyCache
from training.run_folder import write_whole

SPENT = "spent.json"
_NOTHING_SPENT = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "usd": 0.0}
_CHARACTERS_PER_TOKEN = 3.0
"""Deliberately low, so that costs are overestimated: English text has about four characters per
token (OpenAI's tokenizer documentation)."""


class CostLedger:
    """Reply cache of one judge together with the account of what this run spends on it.

    Args:
        path: SQLite file of the cache; created if it does not exist.
        folder: Run folder.
        price: Price of tokens; None if the judge costs nothing or its price is unknown.
        max_cost_usd: Limit for this run; None for no limit.
        max_reply_tokens: Length limit of a reply, in tokens.
        role: Name of the judge in messages.
        limit_key: Key of the limit in messages.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        price: TokenPrice | None,
        max_cost_usd: float | None,
        max_reply_tokens: int,
        role: str = "judge",
        limit_key: str = "resources.max_cost",
    ):
        self._replies = ReplyCache(path)
        self._lock = threading.Lock()
        self._account_path = folder / SPENT
        self._rank = os.environ.get("RANK", "0")
        self._price = price
        self._max_cost_usd = max_cost_usd
        self._max_reply_tokens = max_reply_tokens
        self._role = role
        self._limit_key = limit_key
        folder.mkdir(parents=True, exist_ok=True)
        # Reservations of an earlier process of this rank are void: its calls ended with it.
        with self._account() as account:
            account["reserved_usd"][self._rank] = 0.0

    @property
    def spent(self) -> dict[str, Any]:
        """Calls, tokens and USD that all processes of this run have spent so far."""
        return {k: v for k, v in self._read_account().items() if k in _NOTHING_SPENT}

    @property
    def spent_usd_of_role(self) -> float:
        """Part of the USD that calls in this role have cost."""
        return float(self._read_account()["usd_by_role"].get(self._role, 0.0))

    def _read_account(self) -> dict[str, Any]:
        account: dict[str, Any] = {**_NOTHING_SPENT, "reserved_usd": {}, "usd_by_role": {}}
        if self._account_path.exists():
            account |= json.loads(self._account_path.read_text())
        return account

    @contextmanager
    def _account(self) -> Iterator[dict[str, Any]]:
        """Yield the account for modification by one thread of one process at a time.

        The thread lock comes first because a file lock does not exclude threads of its process.
        """
        with self._lock, FileLock(self._account_path.with_name(f".{SPENT}.lock")):
            account = self._read_account()
            yield account
            write_whole(self._account_path, json.dumps(account) + "\n")

    def cached_reply(self, key: str) -> JudgeReply | None:
        """Return the cached reply to a question, or None."""
        return self._replies.get(key)

    def reserve(self, characters: int) -> float:
        """Reserve the highest possible cost of a call before it begins, and return it in USD.

        Args:
            characters: Length of the question.

        Raises:
            RunError: The call could exceed the cost limit.
        """
        usd = self.max_usd(characters)
        if not usd:
            return 0.0
        with self._account() as account:
            total = account["usd"] + sum(account["reserved_usd"].values()) + usd
            if self._max_cost_usd is not None and total > self._max_cost_usd:
                raise RunError(
                    f"the {self._role}'s calls have cost {account['usd']:.4f} USD, and the next "
                    f"could exceed {self._limit_key} ({self._max_cost_usd:g} USD). Every reply "
                    f"is cached: raise {self._limit_key} and rerun the same command to resume"
                )
            account["reserved_usd"][self._rank] += usd
        return usd

    def max_usd(self, characters: int) -> float:
        """Return the highest possible cost of a call with a question of this length, in USD."""
        if self._price is None:
            return 0.0
        tokens = characters / _CHARACTERS_PER_TOKEN
        return (tokens * self._price.input + self._max_reply_tokens * self._price.output) / 1e6

    def settle(self, reserved_usd: float, key: str | None, reply: JudgeReply | None) -> None:
        """Release the reservation of a call, cache its reply and add its real cost.

        Args:
            reserved_usd: Amount that `reserve` returned.
            key: Cache key of the question; None if its reply is not to be cached.
            reply: Reply to the call; None if the call failed.
        """
        with self._account() as account:
            account["reserved_usd"][self._rank] -= reserved_usd
            if reply is None:
                return
            if key is not None and not reply.too_long:
                self._replies.put(key, reply)
            account["calls"] += 1
            account["input_tokens"] += reply.input_tokens
            account["output_tokens"] += reply.output_tokens
            if self._price is not None:
                cost = reply.input_tokens * self._price.input
                cost += reply.output_tokens * self._price.output
                account["usd"] += cost / 1e6
                roles = account["usd_by_role"]
                roles[self._role] = roles.get(self._role, 0.0) + cost / 1e6


def count_characters(question: Sequence[dict[str, Any]]) -> int:
    """Return the number of characters in a conversation."""
    return sum(len(str(message.get("content", ""))) for message in question)


def read_spent(folder: Path) -> dict[str, Any]:
    """Return the calls, tokens and USD that all processes of a run have spent; empty if none.

    Args:
        folder: Run folder.
    """
    path = folder / SPENT
    account: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {k: account[k] for k in _NOTHING_SPENT} if account.get("calls") else {}
