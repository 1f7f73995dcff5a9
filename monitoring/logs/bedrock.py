"""Records of Bedrock's model invocation logs.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html. Bodies longer
than 100 kB are objects of their own, below `data/` next to the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from monitoring.call import LoggedCall
from monitoring.logs.bodies import read_answers, read_prompt
from monitoring.logs.files import open_text
from monitoring.logs.record import MissingBodyError, parse_time

_SCHEMA = "ModelInvocationLog"


def is_invocation(record: Mapping[str, Any]) -> bool:
    """Return whether a record is one of Bedrock's invocation logs."""
    return record.get("schemaType") == _SCHEMA


def read_invocation(record: Mapping[str, Any], folder: Path) -> Iterator[LoggedCall]:
    """Yield the calls of a record: one for each answer.

    Args:
        record: The record.
        folder: Folder of its file, next to which long bodies lie.

    Raises:
        MissingBodyError: The log has no texts.
        ValueError: It is not a record of a model that answers with text.
    """
    sent, received = record.get("input") or {}, record.get("output") or {}
    request = _body(sent, "input", folder)
    if request is None:
        raise MissingBodyError("the log has no body of the request")
    prompt = read_prompt(request)
    if prompt is None:
        raise ValueError("the request has neither messages nor prompt")
    response = _body(received, "output", folder)
    answers = [] if response is None else read_answers(response)
    model = str(record.get("modelId") or "")
    id_, time = str(record.get("requestId") or ""), parse_time(record.get("timestamp"))
    tokens_in, tokens_out = _count(sent, "inputTokenCount"), _count(received, "outputTokenCount")
    if not answers:
        failed = record.get("errorCode") is not None
        yield LoggedCall(id_, time, model, prompt, prompt_tokens=tokens_in, failed=failed)
    for number, answer in enumerate(answers):
        known = tokens_out if len(answers) == 1 else None
        yield LoggedCall(
            id_ if number == 0 else f"{id_}#{number}",
            time,
            model,
            prompt,
            answer.text,
            answer.finish_reason,
            tokens_in if tokens_in is not None else answer.prompt_tokens,
            known if known is not None else answer.answer_tokens,
            answer.latency_s,
        )


def _count(side: Mapping[str, Any], key: str) -> int | None:
    value = side.get(key)
    return value if isinstance(value, int) else None


def _body(side: Mapping[str, Any], name: str, folder: Path) -> Any:
    """Return the body of one side of a call; None if the log does not have it.

    Args:
        side: Section `input` or `output` of a record.
        name: Which of the two.
        folder: Folder of the log's file.
    """
    if f"{name}BodyJson" in side:
        return side[f"{name}BodyJson"]
    address = side.get(f"{name}BodyS3Path")
    if not isinstance(address, str):
        return None
    file = folder / "data" / PurePosixPath(address).name
    if not file.is_file():
        return None
    with open_text(file) as stream:
        return json.load(stream)
