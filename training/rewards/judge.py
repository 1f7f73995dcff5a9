"""A judge's rating of an answer, asked for at an endpoint that speaks OpenAI's chat protocol.

What was asked once is kept in the run folder, so that a resumed run asks nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from training.config.rewards import Judge
from training.data.rows import PromptRow
from training.errors import RunError
from training.rewards.reward import Place, Prompt, Reward

logger = logging.getLogger(__name__)

_ASK = """You judge answers. {criteria}

The question was:
{prompt}

The answer is:
{answer}

Rate the answer from 1 (worst) to {scale} (best). Reply with the number alone."""
_NUMBER = re.compile(r"\b(\d+)\b")
_WAIT_S = 0.5


class _Judge:
    def __init__(self, section: Judge, folder: Path):
        self._section = section
        self._pool = ThreadPoolExecutor(section.at_once)
        self._kept = folder / "judgements.jsonl"
        self._known: dict[str, float] = _read(self._kept)
        self._lock = Lock()
        self.nonsense = 0

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return list(self._pool.map(self._rated, prompts, completions))

    def _rated(self, prompt: Prompt, answer: str) -> float:
        said = _ASK.format(
            criteria=self._section.criteria,
            prompt=_written(prompt),
            answer=answer,
            scale=self._section.scale,
        )
        key = hashlib.sha256(f"{self._section.model}\n{said}".encode()).hexdigest()
        if key in self._known:
            return self._known[key]
        value = self._asked(said)
        with self._lock:
            self._known[key] = value
            with self._kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": value}) + "\n")
        return value

    def _asked(self, said: str) -> float:
        """Return a rating; nonsense is asked for again and then counts nothing.

        Raises:
            RunError: The endpoint does not answer.
        """
        fault: Exception | None = None
        for attempt in range(self._section.retries + 1):
            try:
                reply = self._call(said)
            except (urllib.error.URLError, TimeoutError, ValueError, KeyError, OSError) as error:
                fault = error
                time.sleep(_WAIT_S * 2**attempt)
                continue
            fault = None
            found = _NUMBER.search(reply)
            if found and 1 <= int(found[1]) <= self._section.scale:
                return (int(found[1]) - 1) / max(1, self._section.scale - 1)
        if fault is not None:
            raise RunError(
                f"the judge at {self._section.url} does not answer ({fault}). What it has judged "
                f"is kept; start it, and the same command goes on from the last checkpoint"
            ) from fault
        with self._lock:
            self.nonsense += 1
        logger.warning("the judge gave no rating %d times; such answers count 0", self.nonsense)
        return 0.0

    def _call(self, said: str) -> str:
        body = {
            "model": self._section.model,
            "messages": [{"role": "user", "content": said}],
            "temperature": 0,
            "max_tokens": 16,
        }
        headers = {"Content-Type": "application/json"}
        if name := self._section.api_key_env:
            headers["Authorization"] = f"Bearer {os.environ.get(name, '')}"
        request = urllib.request.Request(
            f"{self._section.url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers=headers,
        )
        with urllib.request.urlopen(request, timeout=self._section.timeout) as response:
            reply = json.load(response)
        return str(reply["choices"][0]["message"]["content"])


def _written(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _read(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            # Cut off when the process was killed.
            continue
        found[row["key"]] = float(row["value"])
    return found


def build(section: Judge, place: Place) -> Reward:
    """Return the reward.

    Raises:
        RunError: The environment variable with the key is not set.
    """
    if section.api_key_env and not os.environ.get(section.api_key_env):
        raise RunError(
            f"reward judge: the environment variable {section.api_key_env} is not set; it should "
            f"hold the endpoint's key"
        )
    return _Judge(section, place.folder)
