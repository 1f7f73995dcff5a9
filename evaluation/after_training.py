"""Evaluation of a finished run on the suites of `evaluate.suite` in its job.

Training starts it as a process of its own on the first node, when it has released its memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluation.command import EvaluateOptions, run_evaluation
from evaluation.config.suite import load_suite
from evaluation.gates import GateError
from evaluation.results import EvaluationResult, read_results
from training.config import Job
from training.config.model import SCRATCH
from training.console import say
from training.export.checksums import record_change
from training.run_folder import RunFolder, write_whole

FOLDER = "evaluation"
SUMMARY = "summary.json"
CARD = "README.md"
_HEADING = "## Evaluation"


def evaluate_suites(folder: RunFolder) -> None:
    """Evaluate the model of a run on each suite, and write the results into its `evaluation`.

    Raises:
        GateError: A gate is not passed; all suites are evaluated before.
        TemperError: A suite or a model cannot be used.
    """
    job = folder.job
    assert isinstance(job, Job), "checked by the supervisor"
    model = folder.merged if folder.merged.is_dir() else folder.model
    against = None if job.model.source == SCRATCH else job.model.source
    results: list[EvaluationResult] = []
    failures: list[str] = []
    for path in map(Path, job.evaluate.suite):
        name = load_suite(path, against=against is not None).suite
        say(f"evaluating the saved model on the suite {name}")
        out = folder.path / FOLDER / name
        try:
            run_evaluation(EvaluateOptions(str(model), path, against, out))
        except GateError as error:
            failures.append(f"{name}: {error}")
        results.append(read_results(out))
    summary = {"passed": not failures, "suites": [_summary(result) for result in results]}
    write_whole(folder.path / FOLDER / SUMMARY, json.dumps(summary, indent=1) + "\n")
    _add_to_card(folder.model, results)
    if failures:
        raise GateError(
            "\n".join(failures) + f"\nThe model is kept in {folder.model} and is not registered; "
            f"every answer is in {folder.path / FOLDER}"
        )


def _summary(result: EvaluationResult) -> dict[str, Any]:
    """Return what the report of the run shows of a suite."""
    return {
        "suite": result.suite,
        "passed": result.passed,
        "metrics": [
            {
                "metric": f"{task}.{name}",
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                "items": metric.items,
                "against": None if other is None else other.value,
                "difference": None if paired is None else paired.difference,
                "difference_low": None if paired is None else paired.low,
                "difference_high": None if paired is None else paired.high,
            }
            for task, outcome in result.tasks.items()
            for name, metric in outcome.metrics.items()
            for other, paired in [(outcome.against.get(name), outcome.comparison.get(name))]
        ],
        "failed_gates": [f"{gate.gate}: {gate.reason}" for gate in result.gates if not gate.passed],
    }


def _add_to_card(model: Path, results: list[EvaluationResult]) -> None:
    """Write the results into the card of a model, in place of earlier ones."""
    path = model / CARD
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8").partition(f"\n{_HEADING}\n")[0].rstrip()
    text = text.replace("; it was not evaluated otherwise.", ".")
    lines = [text, "", _HEADING, "", "| suite | metric | value | 95 % interval | before |"]
    lines.append("|---|---|---|---|---|")
    for result in results:
        for task, outcome in result.tasks.items():
            for name, metric in outcome.metrics.items():
                before = outcome.against.get(name)
                was = "" if before is None else f"{before.value:.4g}"
                interval = f"{metric.low:.4g} to {metric.high:.4g}"
                lines.append(
                    f"| {result.suite} | {task}.{name} | {metric.value:.4g} | {interval} | {was} |"
                )
    digests = ", ".join(f"{result.suite} `{result.suite_digest[:16]}`" for result in results)
    write_whole(path, "\n".join([*lines, "", f"Digests of the suites: {digests}", ""]))
    record_change(model, CARD)
