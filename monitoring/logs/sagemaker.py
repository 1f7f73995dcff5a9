"""Records of SageMaker's data capture.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html. Files are
`ENDPOINT/VARIANT/yyyy/mm/dd/hh/NAME.jsonl`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any

from monitoring.call import LoggedCall
from monitoring.logs.bodies import read_answers, read_prompt
from monitoring.logs.record import MissingBodyError, parse_time


def is_capture(record: Mapping[str, Any]) -> bool:
    """Return whether a record is one of data capture."""
    return "captureData" in record


def read_capture(record: Mapping[str, Any]) -> Iterator[LoggedCall]:
    """Yield the calls of a record: one for each answer.

    Raises:
        MissingBodyError: The input was not captured.
        ValueError: It is not a record of data capture.
    """
    captured, event = record["captureData"], record.get("eventMetadata") or {}
    request = _decoded(captured.get("endpointInput"))
    if request is None:
        raise MissingBodyError("the input of the call was not captured")
    body = _as_json(request)
    prompt = read_prompt(body)
    if prompt is None:
        raise ValueError("the input has neither messages nor prompt")
    time = parse_time(event.get("inferenceTime"))
    response = _decoded(captured.get("endpointOutput"))
    answers = [] if response is None else read_answers(response)
    id_ = str(event.get("inferenceId") or event.get("eventId") or "")
    asked = body.get("model")
    if not answers:
        yield LoggedCall(id_, time, str(asked or ""), prompt, failed=response is not None)
    for number, answer in enumerate(answers):
        yield LoggedCall(
            id_ if number == 0 else f"{id_}#{number}",
            time,
            answer.model or str(asked or ""),
            prompt,
            answer.text,
            answer.finish_reason,
            answer.prompt_tokens,
            answer.answer_tokens,
        )


def _decoded(side: Any) -> str | None:
    """Return the text of one side of a call; None if it was not captured.

    Raises:
        ValueError: It cannot be decoded.
    """
    if not isinstance(side, Mapping) or side.get("data") is None:
        return None
    data = side["data"]
    if not isinstance(data, str):
        return json.dumps(data)
    if side.get("encoding") != "BASE64":
        return data
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{side.get('mode', 'a side')} is not Base64 of a text: {error}") from None


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"the input is not JSON: {error}") from None
