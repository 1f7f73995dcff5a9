"""Records of the log that `temper serve --log-requests` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from monitoring.call import LoggedCall
from monitoring.logs.bodies import normal_reason, read_prompt
from monitoring.logs.record import MissingBodyError, parse_time

FORMAT = "temper-request"


def is_request(record: Mapping[str, Any]) -> bool:
    """Return whether a record is one of `temper serve`."""
    return record.get("format") == FORMAT


def read_request(record: Mapping[str, Any]) -> Iterator[LoggedCall]:
    """Yield the calls of a record: one for each answer.

    Raises:
        MissingBodyError: It has no prompt.
        ValueError: It has no time.
    """
    prompt = read_prompt(record.get("request"))
    if prompt is None:
        raise MissingBodyError("the record has no prompt")
    time, id_ = parse_time(record.get("time")), str(record.get("id") or "")
    answers = record.get("answers") or [{}]
    for number, answer in enumerate(answers):
        yield LoggedCall(
            id_ if number == 0 else f"{id_}#{number}",
            time,
            str(record.get("model") or ""),
            prompt,
            answer.get("text"),
            normal_reason(answer.get("finish_reason")),
            record.get("prompt_tokens"),
            answer.get("tokens"),
            record.get("latency_s"),
            record.get("first_token_s"),
            record.get("error") is not None,
        )
