"""Reward for a program that passes its tests, which runs in a sandbox.

`sandbox/runner.py` runs code and tests in two processes; `sandbox/seccomp.py` restricts both.
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


class _CodeTestsReward:
    def __init__(self, section: CodeTestsReward):
        self._section = section
        self._pool = ThreadPoolExecutor(section.processes or max(1, (os.cpu_count() or 2) - 1))
        # A trial run, so that a machine without a working sandbox stops before training, instead
        # of scoring every answer 0.
        if self._count_passed("x = 1", "", ["assert x == 1"]) != 1:
            raise DeviceError(
                "reward code_tests cannot sandbox programs on this machine "
                f"({platform.system()} {platform.release()}, {platform.machine()}): it needs Linux "
                "with seccomp on x86_64 or aarch64, and a memory limit that Python starts in"
            )

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return list(self._pool.map(self._score_answer, prompts, completions, rows))

    def _score_answer(self, prompt: Prompt, answer: str, row: PromptRow) -> float:
        setup, tests = self._tests(row)
        code = extract_program(answer)
        if self._section.continues_prompt:
            code = f"{prompt if isinstance(prompt, str) else prompt[-1]['content']}{code}"
        passed = self._count_passed(code, setup, tests)
        return passed / len(tests) if self._section.partial else float(passed == len(tests))

    def _tests(self, row: PromptRow) -> tuple[str, list[str]]:
        columns = self._section
        tests = row.columns.get(columns.tests)
        if isinstance(tests, str):
            # A single program as in HumanEval: it defines `check`, to be called on the function.
            entry = row.columns.get(columns.entry_point)
            tests = [tests + (f"\ncheck({entry})\n" if entry else "")]
        if not isinstance(tests, list) or not tests or not all(isinstance(t, str) for t in tests):
            raise DataError(
                f"{row.id}: reward code_tests finds no tests in the column {columns.tests!r}. It "
                f"has {', '.join(sorted(row.columns)) or 'no columns'}. Name the column in "
                f"reward.tests: a list of assertions, or one program"
            )
        return str(row.columns.get(columns.setup) or ""), tests

    def _count_passed(self, code: str, setup: str, tests: list[str]) -> int:
        """Return how many tests a program passes; 0 if it crashed or timed out."""
        # Only the process of the tests knows the nonce, so that a result which the program under
        # test writes itself does not count.
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
                input=_frames(job, hidden),
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
        return _parse_result(done.stdout, nonce)


def _frames(*messages: dict[str, Any]) -> bytes:
    texts = [json.dumps(message).encode() for message in messages]
    return b"".join(f"{len(text):08x}".encode() + text for text in texts)


def _parse_result(output: bytes, nonce: str) -> int:
    try:
        result: dict[str, Any] = json.loads(output)
        return int(result["passed"]) if result["nonce"] == nonce else 0
    except (ValueError, KeyError, TypeError):
        return 0


def extract_program(answer: str) -> str:
    """Return the code of an answer: its first fenced block, or all of it if it has none."""
    fenced = _FENCED.search(answer)
    return fenced[1] if fenced else answer


def build(section: CodeTestsReward, context: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        DeviceError: This machine cannot run the sandbox.
    """
    return _CodeTestsReward(section)
