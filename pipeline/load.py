"""Reading of a pipeline file, with one error for all of its problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evaluation.config.gates import gate_problems
from evaluation.config.suite import Suite, load_suite
from pipeline.config import (
    AnyStep,
    DeployStep,
    EvaluateStep,
    GateStep,
    PipelineSpec,
    PrepareStep,
    TrainStep,
)
from pipeline.graph import graph_problems, in_order
from training.config.load import override, read_document
from training.errors import JobError, Problem, TemperError
from validation.error_messages import explain

HINT = "Pipelines that come with Temper are in pipelines/"


@dataclass(frozen=True)
class LoadedPipeline:
    """Checked pipeline.

    Attributes:
        path: Its file.
        spec: Its content.
        order: Names of the steps, each after those that it uses.
    """

    path: Path
    spec: PipelineSpec
    order: tuple[str, ...]

    def file(self, name: str) -> Path:
        """Return the path of a file that the pipeline names, found as by `find_file`."""
        return find_file(name, self.path.parent)

    @property
    def steps(self) -> Mapping[str, AnyStep]:
        """Steps by name."""
        return self.spec.steps


def load_pipeline(path: Path, overrides: str = "") -> LoadedPipeline:
    """Return the pipeline of a file.

    Args:
        path: The file.
        overrides: `key=value` pairs separated by spaces.

    Raises:
        JobError: The file cannot be used; the error lists every problem in it and in its graph.
    """
    document = override(read_document(path, hint=HINT), overrides, str(path))
    if not isinstance(document, dict):
        raise JobError(str(path), [Problem("(file)", "a pipeline is a mapping: name, steps")])
    try:
        spec = PipelineSpec.model_validate(document)
    except ValidationError as error:
        raise JobError(str(path), explain(error, PipelineSpec)) from None
    problems = [*graph_problems(spec.steps), *_file_problems(spec, path.parent)]
    if problems:
        raise JobError(str(path), problems)
    return LoadedPipeline(path, spec, in_order(spec.steps))


def find_file(name: str, folder: Path) -> Path:
    """Return the path of a file: from the working directory, or else from a folder."""
    path = Path(name)
    return path if path.exists() or not (folder / path).exists() else folder / path


def _file_problems(spec: PipelineSpec, folder: Path) -> Iterator[Problem]:
    """Yield files that do not exist or cannot be used, and gates on scores that nothing gives."""
    suites: dict[str, Suite] = {}
    for name, step in spec.steps.items():
        key = f"steps.{name}"
        if isinstance(step, PrepareStep | TrainStep):
            yield from _missing(f"{key}.job", step.job, folder)
        if isinstance(step, DeployStep):
            yield from _deploy_problems(key, step, folder)
        if isinstance(step, EvaluateStep):
            path = find_file(step.suite, folder)
            try:
                suites[name] = load_suite(path, against=step.compares)
            except JobError as error:
                for problem in error.problems:
                    message = f"{path}: {problem.path}: {problem.message}"
                    yield Problem(f"{key}.suite", message, problem.value, problem.fix)
            except TemperError as error:
                yield Problem(f"{key}.suite", str(error))
    for name, step in spec.steps.items():
        evaluated = spec.steps.get(step.evaluation) if isinstance(step, GateStep) else None
        if isinstance(step, GateStep) and isinstance(evaluated, EvaluateStep):
            suite = suites.get(step.evaluation)
            yield from _score_problems(f"steps.{name}", step, evaluated, suite)


def _missing(key: str, name: str, folder: Path) -> Iterator[Problem]:
    if not find_file(name, folder).is_file():
        fix = "Paths are taken from the working directory, then from the folder of the pipeline"
        yield Problem(key, "there is no such file", name, fix)


def _deploy_problems(key: str, step: DeployStep, folder: Path) -> Iterator[Problem]:
    if step.file is not None:
        yield from _missing(f"{key}.file", step.file, folder)
    elif step.to is None:
        fix = "Name a specification of the deployment in file, or its kind in to: endpoint"
        yield Problem(f"{key}.to", "it is not said where the version is served", fix=fix)


def _score_problems(
    key: str, step: GateStep, evaluated: EvaluateStep, suite: Suite | None
) -> Iterator[Problem]:
    if not step.limits and not step.better:
        fix = "Name metrics in better, or limits such as {metric: docs.bits_per_byte, at_most: 2}"
        yield Problem(key, "the gate decides nothing", fix=fix)
    if step.better and not evaluated.compares:
        fix = f"Set steps.{step.evaluation}.against: production"
        yield Problem(f"{key}.better", "the evaluation compares with no other model", fix=fix)
    if suite is None:
        return
    metrics: dict[str, Any] = {task.name: task.metrics or None for task in suite.tasks}
    for problem in gate_problems(step.limits, metrics, against=evaluated.compares):
        path = problem.path.replace("gates.", f"{key}.limits.", 1)
        yield Problem(path, problem.message, problem.value, problem.fix)
    for index, metric in enumerate(step.better):
        task, _, score = metric.partition(".")
        known = metrics.get(task)
        if task not in metrics:
            fix = f"Tasks of the suite: {', '.join(metrics)}"
            yield Problem(f"{key}.better.{index}", "there is no such task", metric, fix)
        elif known is not None and score not in known:
            fix = f"Metrics of {task}: {', '.join(sorted(known))}"
            yield Problem(f"{key}.better.{index}", "the task has no such metric", metric, fix)
