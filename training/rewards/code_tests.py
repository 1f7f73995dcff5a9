"""Reward for a program that passes its tests, which runs in a sandbox.

`sandbox/program_tester.py` runs it: `runner.py` runs code and tests in two processes, and
`seccomp.py` restricts both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from training.config.rewards import CodeTestsReward
from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import Prompt, Reward
from training.rewards.context import RewardContext
from training.rewards.sandbox.program_tester import ProgramTester, as_tests, extract_program


class _CodeTestsReward:
    def __init__(self, section: CodeTestsReward):
        self._section = section
        self._pool = ThreadPoolExecutor(section.processes or max(1, (os.cpu_count() or 2) - 1))
        self._tester = ProgramTester(section.timeout, section.memory_gib, "reward code_tests")

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return list(self._pool.map(self._score_answer, prompts, completions, rows))

    def _score_answer(self, prompt: Prompt, answer: str, row: PromptRow) -> float:
        setup, tests = self._tests(row)
        code = extract_program(answer)
        if self._section.continues_prompt:
            code = f"{prompt if isinstance(prompt, str) else prompt[-1]['content']}{code}"
        passed = self._tester.count_passed(code, setup, tests)
        return passed / len(tests) if self._section.partial else float(passed == len(tests))

    def _tests(self, row: PromptRow) -> tuple[str, list[str]]:
        columns = self._section
        entry_point = row.columns.get(columns.entry_point)
        tests = as_tests(row.columns.get(columns.tests), entry_point)
        if tests is None:
            raise DataError(
                f"{row.id}: reward code_tests finds no tests in the column {columns.tests!r}. It "
                f"has {', '.join(sorted(row.columns)) or 'no columns'}. Name the column in "
                f"reward.tests: a list of assertions, or one program"
            )
        return str(row.columns.get(columns.setup) or ""), tests


def build(section: CodeTestsReward, context: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        DeviceError: This machine cannot run the sandbox.
    """
    return _CodeTestsReward(section)
