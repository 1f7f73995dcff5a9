"""Tests of untrusted programs, each run in the sandbox of `runner.py`."""

from __future__ import annotations

import json
import platform
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from training.errors import DeviceError

_SANDBOX = Path(__file__).parent
_RUNNER, _SECCOMP = _SANDBOX / "runner.py", _SANDBOX / "seccomp.py"
_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


class ProgramTester:
    """Runs programs against their tests.

    Args:
        timeout_s: Time limit of a program and its tests, in seconds.
        memory_gib: Memory limit in GiB.
        user: What needs the sandbox, for the error message, such as `reward code_tests`.

    Raises:
        DeviceError: This machine cannot run the sandbox. A trial run finds that before any
            answer is scored 0.
    """

    def __init__(self, timeout_s: float, memory_gib: float, user: str):
        self._timeout_s = timeout_s
        self._memory_gib = memory_gib
        if self.count_passed("x = 1", "", ["assert x == 1"]) != 1:
            raise DeviceError(
                f"{user} cannot sandbox programs on this machine "
                f"({platform.system()} {platform.release()}, {platform.machine()}): it needs Linux "
                "with seccomp on x86_64 or aarch64, and a memory limit that Python starts in"
            )

    def count_passed(self, code: str, setup: str, tests: list[str]) -> int:
        """Return how many tests a program passes; 0 if it crashed or timed out.

        Args:
            code: The program.
            setup: Code to run before it.
            tests: Tests, each a program that raises an exception if it fails.
        """
        # Only the process of the tests knows the nonce, so that a result which the program under
        # test writes itself does not count.
        nonce = secrets.token_hex(16)
        job = {
            "code": code,
            "setup": setup,
            "cpu_s": max(1, round(self._timeout_s)),
            "memory_bytes": round(self._memory_gib * 2**30),
        }
        hidden = {"tests": tests, "nonce": nonce}
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(_RUNNER), str(_SECCOMP)],
                input=_frames(job, hidden),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._timeout_s + 2,
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


def as_tests(tests: Any, entry_point: Any) -> list[str] | None:
    """Return the tests in a column; None if it holds none.

    Args:
        tests: A list of assertions (MBPP), or one program (HumanEval).
        entry_point: Name of the function that `check` of a test program receives.
    """
    if isinstance(tests, str):
        tests = [tests + (f"\ncheck({entry_point})\n" if entry_point else "")]
    if not isinstance(tests, list) or not tests or not all(isinstance(t, str) for t in tests):
        return None
    return tests
