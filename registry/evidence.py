"""Evidence of a run: its results on suites, and the reasons not to register it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.results import RESULTS, EvaluationResult, MetricResult, TaskResult, read_results
from registry.record import Provenance

_LEVEL = 0.05


def find_results(run: Path) -> tuple[dict[str, EvaluationResult], list[str]]:
    """Return the results in a run by their path in it, and problems of files that are not."""
    found, problems = {}, []
    for path in sorted((run / "evaluation").glob(f"*/{RESULTS}")):
        name = path.relative_to(run).as_posix()
        try:
            found[name] = read_results(path.parent)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{name} cannot be read: {error}. Evaluate the run again")
    return found, problems


def digest_problems(results: dict[str, EvaluationResult], weights: dict[str, str]) -> list[str]:
    """Return the results that are those of another model.

    Args:
        results: Results of the run by path.
        weights: Digest of the weights of each form of the run.
    """
    return [
        f"{path} was measured on weights with the digest {result.model.digest}, and those of this "
        f"run have {', '.join(weights.values())}. Evaluate the run again"
        for path, result in results.items()
        if result.model.digest not in weights.values()
    ]


def quality_problems(results: dict[str, EvaluationResult], origin: Provenance) -> list[str]:
    """Return what a reason can override: no evaluation, gates not passed, worse than the base.

    Args:
        results: Results of the run by path.
        origin: Origin of the run, which names the base.
    """
    if not results:
        return [
            "it has no evaluation. Run: temper evaluate RUN SUITE --against BASE, with the run's "
            "folder as RUN"
        ]
    problems = []
    for result in results.values():
        problems += [
            f"gate of {result.suite} not passed: {gate.gate} ({gate.reason})"
            for gate in result.gates
            if not gate.passed
        ]
        if _is_base(result, origin):
            problems += [
                worse
                for name, task in result.tasks.items()
                for worse in _worse(f"{result.suite}, {name}", task)
            ]
    return problems


def _is_base(result: EvaluationResult, origin: Provenance) -> bool:
    """Return True if the other model of a result is the base of the run."""
    against = result.against
    if against is None:
        return False
    if against.digest is not None and origin.base_digest is not None:
        return against.digest == origin.base_digest
    return against.source == origin.base


def _worse(place: str, task: TaskResult) -> list[str]:
    problems = []
    for name, pair in task.comparison.items():
        sign = 1 if task.metrics[name].higher_is_better else -1
        if pair.p_holm < _LEVEL and sign * pair.difference < 0:
            problems.append(
                f"{place}: {name} is significantly worse than the base's: {pair.difference:+.4g} "
                f"({pair.low:+.4g} to {pair.high:+.4g}, p {pair.p_holm:.2g})"
            )
    return problems


def summary(result: EvaluationResult, sha256: str) -> dict[str, Any]:
    """Return what a record holds of results: every metric with its interval, no items.

    Args:
        result: The results.
        sha256: SHA-256 of their file.
    """
    return {
        "suite": result.suite,
        "suite_digest": result.suite_digest,
        "results_sha256": sha256,
        "created": result.created,
        "passed": result.passed,
        "against": None if result.against is None else result.against.source,
        "settings": dict(result.model.settings),
        "tasks": {
            name: {"digest": task.digest, "items": task.items}
            for name, task in result.tasks.items()
        },
        "gates": [asdict(gate) for gate in result.gates],
        "metrics": {
            f"{task}.{name}": _interval(metric)
            for task, outcome in result.tasks.items()
            for name, metric in outcome.metrics.items()
        },
        "comparison": {
            f"{task}.{name}": asdict(pair)
            for task, outcome in result.tasks.items()
            for name, pair in outcome.comparison.items()
        },
    }


def _interval(metric: MetricResult) -> dict[str, Any]:
    names = ("value", "low", "high", "items", "higher_is_better")
    return {name: getattr(metric, name) for name in names}


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object in a file; an empty one if there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
