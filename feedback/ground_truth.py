"""Output manifest of a SageMaker Ground Truth job, with any label attribute name.

A custom workflow stores every worker's answer; a built-in classification task stores only the
consolidated one. https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from feedback.parse_choice import parse_choice

_WORKERS = "annotationsFromAllWorkers"
_METADATA = "-metadata"


class UnlabelledError(ValueError):
    """Record without a judgement: it is counted and skipped."""


def expand_judgements(
    origin: str, values: dict[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield one record per judgement of a manifest's line; any other line unchanged.

    Args:
        origin: Position of the line in the files.
        values: The line.

    Raises:
        UnlabelledError: The labelling job failed on the line.
        ValueError: A worker's answer cannot be read.
    """
    workers = [w for v in values.values() if isinstance(v, dict) for w in v.get(_WORKERS) or ()]
    metadata = [v for k, v in values.items() if k.endswith(_METADATA) and isinstance(v, dict)]
    if not workers and not metadata:
        yield origin, values
        return
    task = _task_columns(values)
    for number, worker in enumerate(workers, start=1):
        yield f"{origin}/{number}", task | _worker_answer(worker)
    if workers:
        return
    for entry in metadata:
        if "failure-reason" in entry:
            raise UnlabelledError(f"the labelling job failed on it: {entry['failure-reason']}")
    classes = [entry["class-name"] for entry in metadata if "class-name" in entry]
    yield origin, task | ({"choice": classes[0]} if classes else {})


def _task_columns(values: dict[str, Any]) -> dict[str, Any]:
    """Return the columns shown to the worker: the line's own, and those nested in `source`."""
    labels = {k.removesuffix(_METADATA) for k in values if k.endswith(_METADATA)}
    columns = {k: v for k, v in values.items() if not isinstance(v, dict) and k not in labels}
    source = columns.get("source")
    if isinstance(source, str) and source.lstrip().startswith("{"):
        columns |= json.loads(columns.pop("source"))
    return columns


def _worker_answer(worker: Any) -> dict[str, Any]:
    """Return a worker's answer; the field with the choice may have any name.

    Raises:
        ValueError: The answer cannot be read.
    """
    try:
        content = worker["annotationData"]["content"]
        content = json.loads(content) if isinstance(content, str) else content
        answer = {**content, "annotator": worker["workerId"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"a worker's answer cannot be read ({type(error).__name__}: {error})"
        ) from None
    for value in () if "choice" in content else content.values():
        try:
            parse_choice(value)
        except ValueError:
            continue
        return {"choice": value, **answer}
    return answer
