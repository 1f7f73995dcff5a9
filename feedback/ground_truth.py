"""The output manifest of a Ground Truth job, whatever its label attribute is called.

A custom workflow keeps every worker's answer; a built-in classification keeps the one that they
came to. https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from feedback.parse_choice import read_choice

_WORKERS = "annotationsFromAllWorkers"
_METADATA = "-metadata"


class UnlabelledError(ValueError):
    """A record without a judgement: it is counted and left out."""


def judgements(origin: str, values: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield one record for each judgement of a manifest's line; other lines as they are.

    Raises:
        UnlabelledError: The labelling job failed on the line.
        ValueError: A worker's answer cannot be read.
    """
    workers = [w for v in values.values() if isinstance(v, dict) for w in v.get(_WORKERS) or ()]
    metadata = [v for k, v in values.items() if k.endswith(_METADATA) and isinstance(v, dict)]
    if not workers and not metadata:
        yield origin, values
        return
    asked = _asked(values)
    for number, worker in enumerate(workers, start=1):
        yield f"{origin}/{number}", asked | _said(worker)
    if workers:
        return
    for about in metadata:
        if "failure-reason" in about:
            raise UnlabelledError(f"the labelling job failed on it: {about['failure-reason']}")
    classes = [about["class-name"] for about in metadata if "class-name" in about]
    yield origin, asked | ({"choice": classes[0]} if classes else {})


def _asked(values: dict[str, Any]) -> dict[str, Any]:
    """Return what was shown: the line's own columns, and those written into `source`."""
    labels = {k.removesuffix(_METADATA) for k in values if k.endswith(_METADATA)}
    asked = {k: v for k, v in values.items() if not isinstance(v, dict) and k not in labels}
    source = asked.get("source")
    if isinstance(source, str) and source.lstrip().startswith("{"):
        asked |= json.loads(asked.pop("source"))
    return asked


def _said(worker: Any) -> dict[str, Any]:
    """Return a worker's answer; the field that holds the choice may have any name."""
    try:
        said = worker["annotationData"]["content"]
        said = json.loads(said) if isinstance(said, str) else said
        named = {**said, "annotator": worker["workerId"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"a worker's answer cannot be read ({type(error).__name__}: {error})"
        ) from None
    for value in () if "choice" in said else said.values():
        try:
            read_choice(value)
        except ValueError:
            continue
        return {"choice": value, **named}
    return named
