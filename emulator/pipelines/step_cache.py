"""Results of earlier executions that a step with a `CacheConfig` reuses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator.pipelines.definition import DefinedStep
from emulator.pipelines.job_kinds import JOB_KINDS

_DURATION = re.compile(
    r"P?(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.I
)
_UNIT_S = (365 * 86_400, 30 * 86_400, 7 * 86_400, 86_400, 3600, 60, 1)


@dataclass(frozen=True)
class CachedResult:
    """Result of a step that succeeded.

    Attributes:
        time: When, in seconds since the epoch.
        properties: Properties of the step.
        metadata: Metadata of the step, with the ARN of the job.
        execution: ARN of the execution.
    """

    time: float
    properties: Mapping[str, Any]
    metadata: Mapping[str, Any]
    execution: str


class StepCache:
    """Results of the steps of one pipeline, by what the service compares."""

    def __init__(self) -> None:
        self._results: dict[str, CachedResult] = {}
        self._lock = threading.Lock()

    def find(
        self, step: DefinedStep, arguments: Mapping[str, Any], now: float
    ) -> CachedResult | None:
        """Return the result to reuse; None if there is none, or none is wanted.

        Args:
            step: The step.
            arguments: Its arguments without references.
            now: The time in seconds since the epoch.
        """
        config = step.document.get("CacheConfig", {})
        if not config.get("Enabled"):
            return None
        with self._lock:
            result = self._results.get(_key(step, arguments))
        if result is None or now - result.time > duration_s(config["ExpireAfter"]):
            return None
        return result

    def add(self, step: DefinedStep, arguments: Mapping[str, Any], result: CachedResult) -> None:
        """Keep a result, also of a step that itself reuses none.

        Args:
            step: The step.
            arguments: Its arguments without references.
            result: The result.
        """
        with self._lock:
            self._results[_key(step, arguments)] = result


def _key(step: DefinedStep, arguments: Mapping[str, Any]) -> str:
    compared = {key: arguments.get(key) for key in JOB_KINDS[step.kind].cache_keys}
    return json.dumps([step.name, step.kind, compared], sort_keys=True)


def duration_s(text: str) -> float:
    """Return the seconds of an ISO 8601 duration, with which a result expires.

    Raises:
        ValueError: It is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError(f"ExpireAfter: {text!r} is not an ISO 8601 duration")
    pairs = zip(found.groups(), _UNIT_S, strict=True)
    return float(sum(int(number) * unit for number, unit in pairs if number))
