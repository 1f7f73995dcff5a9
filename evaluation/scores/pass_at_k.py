"""Score pass@k: probability that one of k sampled programs passes its tests."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from evaluation.config.scores import PassAtK
from evaluation.metric import mean_metric
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, metric_name
from training.errors import DataError
from training.rewards.sandbox.program_tester import ProgramTester, as_tests, extract_program


class PassAtKScore:
    """Unbiased estimate of pass@k (Chen et al. 2021, arXiv:2107.03374).

    Args:
        section: Section of the score.
        context: Not used.

    Raises:
        DeviceError: This machine cannot run the sandbox.
    """

    def __init__(self, section: PassAtK, context: ScoreContext):
        self._section = section
        self._tester = ProgramTester(section.timeout, section.memory_gib, "score pass_at_k")

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `pass@k` for each k.

        Raises:
            DataError: An item has no tests, or fewer answers than k.
        """
        programs = [self._programs(item) for item in items]
        processes = self._section.processes or max(1, (os.cpu_count() or 2) - 1)
        with ThreadPoolExecutor(processes) as pool:
            passed = [list(pool.map(self._passes, item)) for item in programs]
        metrics = tuple(
            mean_metric(
                metric_name(self._section, f"pass@{k}"),
                np.array([pass_at_k(len(item), sum(item), k) for item in passed]),
            )
            for k in self._section.k
        )
        return ScoreOutcome(metrics, tuple({"passed": item} for item in passed))

    def _programs(self, item: AnsweredItem) -> list[tuple[str, str, list[str]]]:
        section, most = self._section, max(self._section.k)
        if len(item.answers) < most:
            raise DataError(
                f"score pass_at_k: k is {most}, but item {item.id} has {len(item.answers)} "
                f"answers. Write samples: {most} or more in the task"
            )
        tests = as_tests(item.fields.get(section.tests), item.fields.get(section.entry_point))
        if tests is None:
            raise DataError(
                f"score pass_at_k finds no tests in the column {section.tests!r} of item "
                f"{item.id}. It has {', '.join(sorted(item.fields))}. Name the column in tests: a "
                "list of assertions, or one program"
            )
        setup = str(item.fields.get(section.setup) or "")
        start = "" if section.continues is None else str(item.fields.get(section.continues, ""))
        return [(start + extract_program(answer), setup, tests) for answer in item.answers]

    def _passes(self, program: tuple[str, str, list[str]]) -> bool:
        code, setup, tests = program
        return self._tester.count_passed(code, setup, tests) == len(tests)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return 1 - C(n - c, k) / C(n, k), the unbiased estimate of pass@k.

    Args:
        samples: Number n of sampled programs, at least k.
        correct: Number c of programs that pass.
        k: Number of programs that may be tried.
    """
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)
