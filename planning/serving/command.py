"""Implementation of `temper plan-serving`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from planning.hf_config import NamedShape, shape_named
from planning.model_shape import ModelShape
from planning.serving.options import DTYPES, serving_options
from planning.serving.render import import_lines, parameters, plan_lines
from planning.serving.workload import ServingWorkload, WeightDtype
from training.console import say
from training.errors import JobError, ModelError, Problem
from training.run_folder import RunFolder


def print_serving_plan(
    model: str,
    workload: ServingWorkload,
    *,
    context_given: bool = True,
    dtype: str | None = None,
    region: str | None = None,
    import_units: int | None = None,
) -> int:
    """Print instances that serve a model, their speed, and the cost of tokens.

    Args:
        model: Run, folder, S3 address or Hub id.
        workload: Requests and limits.
        context_given: Whether the user named the longest request; else it fits the model.
        dtype: Dtype of the weights; all that a device supports if None.
        region: Region of prices.
        import_units: Custom Model Units, to compare with Bedrock's import.

    Returns:
        Exit code: 2 if no instance serves the model within the limits.

    Raises:
        JobError: Options exclude each other, or the model has no `config.json` to read.
    """
    shape = shape_named(NamedShape(_model_folder(model), None, "temper plan-serving", "MODEL"))
    if not context_given:
        workload = replace(workload, context=min(workload.context, shape.context))
    if problems := [*_problems(workload, dtype), *_context_problems(shape, workload)]:
        raise JobError("temper plan-serving", problems)
    dtypes: Sequence[WeightDtype] = [known for known in DTYPES if dtype in (None, known)]
    options = serving_options(shape, workload, dtypes, region)
    if not options:
        say(
            f"{model} ({parameters(shape)}): no instance type of the catalog "
            f"serves it with a context of {workload.context} within the limits. Allow more time "
            f"(--max-ttft-ms, --max-token-ms), a shorter --context, or --dtype fp8"
        )
        return 2
    for line in plan_lines(model, shape, workload, options):
        say(line)
    if import_units is not None:
        for line in import_lines(shape, import_units, options):
            say(line)
    return 0


def _model_folder(model: str) -> str:
    """Return the folder of a run's model, or the model as it is named.

    Raises:
        ModelError: The run has no model.
    """
    run = RunFolder(Path(model))
    if run.state is None:
        return model
    if not run.model.is_dir():
        raise ModelError(f"the run {model} is {run.state} and has no model yet")
    return str(run.merged if run.merged.is_dir() else run.model)


def _problems(workload: ServingWorkload, dtype: str | None) -> Iterator[Problem]:
    needed = workload.prompt_tokens + workload.answer_tokens
    if needed > workload.context:
        yield Problem(
            "--context",
            f"prompt and answer have {needed} tokens on average, more than the longest request",
            str(workload.context),
            f"Set it to {needed} or more",
        )
    if dtype is not None and dtype not in DTYPES:
        yield Problem("--dtype", "unknown dtype", dtype, f"Known are {', '.join(DTYPES)}")


def _context_problems(shape: ModelShape, workload: ServingWorkload) -> Iterator[Problem]:
    if workload.context > shape.context:
        yield Problem(
            "--context",
            f"the model has a context of {shape.context} tokens",
            str(workload.context),
            f"Set it to {shape.context} or less",
        )
