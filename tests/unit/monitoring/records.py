"""Records of calls, as the services document them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from emulator.hosting.data_capture import capture_record
from emulator.hosting.model_server import Answer

START = datetime(2026, 11, 2, tzinfo=UTC)
_CONFIG = {
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
}


def captured(
    prompt: str,
    answer: str,
    hours: float = 0.0,
    *,
    model: str = "assistant",
    reason: str = "stop",
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a record of data capture, which the emulated endpoint makes."""
    request = {
        "Body": json.dumps({"prompt": prompt}).encode(),
        "ContentType": "application/json",
        "EndpointName": "assistant",
    }
    body = {
        "model": model,
        "choices": [{"index": 0, "text": answer, "finish_reason": reason}],
        "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": len(answer.split())},
    }
    given = Answer(200, {"content-type": "application/json"}, json.dumps(body).encode())
    at = (START + timedelta(hours=hours)).timestamp()
    return capture_record({**_CONFIG, **(config or {})}, request, given, at)


def invocation(request: Any, response: Any, **changes: Any) -> dict[str, Any]:
    """Return a record of Bedrock's invocation log."""
    return {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "timestamp": "2026-11-02T10:00:00Z",
        "accountId": "111122223333",
        "region": "us-east-1",
        "requestId": "r1",
        "operation": "InvokeModel",
        "modelId": "arn:aws:bedrock:us-east-1:111122223333:imported-model/abc",
        "input": {
            "inputContentType": "application/json",
            "inputBodyJson": request,
            "inputTokenCount": 7,
        },
        "output": {
            "outputContentType": "application/json",
            "outputBodyJson": response,
            "outputTokenCount": 3,
        },
        **changes,
    }


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Write records as JSON Lines, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
