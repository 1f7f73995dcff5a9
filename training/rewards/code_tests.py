"""Whether the program in an answer passes its tests, run where it can do no harm.

`exam` runs it, `jail` locks it in.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from training.config.rewards import CodeTestsReward
from training.data.schema.rows import PromptRow
from training.errors import DataError, DeviceError
from training.rewards.base import Prompt, Reward, RewardContext

_SANDBOX = Path(__file__).with_name("sandbox")
_RUNNER, _SECCOMP = _SANDBOX / "runner.py", _SANDBOX / "seccomp.py"
_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


class _CodeTests:
    def __init__(self, section: CodeTestsReward):
        self._section = section
        self._pool = ThreadPoolExecutor(section.processes or max(1, (os.cpu_count() or 2) - 1))
        if self._passed("x = 1", "", ["assert x == 1"]) != 1:
            raise DeviceError(
                "reward code_tests cannot lock programs in on this machine "
                f"({platform.system()} {platform.release()}, {platform.machine()}): it needs Linux "
                "with seccomp on x86_64 or aarch64, and a memory limit that Python starts in"
            )

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return list(self._pool.map(self._share, prompts, completions, rows))

    def _share(self, prompt: Prompt, answer: str, row: PromptRow) -> float:
        setup, tests = self._tests(row)
        code = program(answer)
        if self._section.continues_prompt:
            code = f"{prompt if isinstance(prompt, str) else prompt[-1]['content']}{code}"
        passed = self._passed(code, setup, tests)
        return passed / len(tests) if self._section.partial else float(passed == len(tests))

    def _tests(self, row: PromptRow) -> tuple[str, list[str]]:
        names = self._section
        found = row.columns.get(names.tests)
        if isinstance(found, str):
            # One program of tests, as in HumanEval, whose `check` is called with the function.
            entry = row.columns.get(names.entry_point)
            found = [found + (f"\ncheck({entry})\n" if entry else "")]
        if not isinstance(found, list) or not found or not all(isinstance(t, str) for t in found):
            raise DataError(
                f"{row.id}: reward code_tests finds no tests in the column {names.tests!r}. It has "
                f"{', '.join(sorted(row.columns)) or 'no columns'}. Name the column in "
                f"reward.tests: a list of assertions, or one program"
            )
        return str(row.columns.get(names.setup) or ""), found

    def _passed(self, code: str, setup: str, tests: list[str]) -> int:
        """Return how many tests a program passes; 0 where it did not come to its end."""
        nonce = secrets.token_hex(16)
        limit_s = self._section.timeout
        job = {
            "code": code,
            "setup": setup,
            "cpu_s": max(1, round(limit_s)),
            "memory_bytes": round(self._section.memory_gib * 2**30),
        }
        hidden = {"tests": tests, "nonce": nonce}
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(_RUNNER), str(_SECCOMP)],
                input=_parts(job, hidden),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=limit_s + 2,
                env={},
                cwd="/",
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 0
        return _read(done.stdout, nonce)


def _parts(*said: dict[str, Any]) -> bytes:
    texts = [json.dumps(one).encode() for one in said]
    return b"".join(f"{len(text):08x}".encode() + text for text in texts)


def _read(written: bytes, nonce: str) -> int:
    try:
        result: dict[str, Any] = json.loads(written)
        return int(result["passed"]) if result["nonce"] == nonce else 0
    except (ValueError, KeyError, TypeError):
        return 0


def program(answer: str) -> str:
    """Return the code of an answer: what stands between its first Markdown fences, or all of it."""
    found = _FENCED.search(answer)
    return found[1] if found else answer


def build(section: CodeTestsReward, place: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        DeviceError: This machine cannot lock programs in.
    """
    return _CodeTests(section)
