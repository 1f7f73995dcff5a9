"""Emulated model invocation logging of Bedrock, to CloudWatch Logs and to S3.

The setting exists once per account and Region. Records have the form that AWS documents
(https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html); they are
delivered at once, one object each. Bodies above 100 kB are objects of their own.
"""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from emulator.bedrock_account import BedrockAccount
from emulator.moto_account import ACCOUNT
from emulator.request_validation import reject

_STREAM = "aws/bedrock/modelinvocations"
_LARGE_BYTES = 100_000
Request = dict[str, Any]


class InvocationLog:
    """Setting of the account, and the delivery of what is logged.

    Args:
        account: The account.
    """

    def __init__(self, account: BedrockAccount):
        self._account = account
        self._config: Request | None = None

    def put(self, request: Request) -> Request:
        """Set where invocations are logged (PutModelInvocationLoggingConfiguration)."""
        config = request["loggingConfig"]
        if not {"cloudWatchConfig", "s3Config"} & config.keys():
            reject("Provide a cloudWatchConfig, an s3Config, or both")
        self._config = config
        return {}

    def get(self, request: Request) -> Request:
        """Return the setting (GetModelInvocationLoggingConfiguration)."""
        return {} if self._config is None else {"loggingConfig": self._config}

    def delete(self, request: Request) -> Request:
        """Log nothing from now on (DeleteModelInvocationLoggingConfiguration)."""
        self._config = None
        return {}

    def write(
        self,
        operation: str,
        model: str,
        bodies: tuple[Any, Any],
        tokens: tuple[int | None, int | None] = (None, None),
    ) -> None:
        """Log one invocation.

        Args:
            operation: Operation of the runtime, such as `Converse`.
            model: Identifier of the model in the request.
            bodies: Bodies of request and response; of a stream, the list of its parts.
            tokens: Tokens of request and response.
        """
        if self._config is None:
            return
        now = self._account.now()
        record: Request = {
            "schemaType": "ModelInvocationLog",
            "schemaVersion": "1.0",
            "timestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "accountId": ACCOUNT,
            "region": self._account.region,
            "requestId": str(uuid.uuid4()),
            "operation": operation,
            "modelId": model,
        }
        for side, body, count in zip(("input", "output"), bodies, tokens, strict=True):
            record[side] = {f"{side}ContentType": "application/json"}
            if self._config.get("textDataDeliveryEnabled", True):
                record[side] |= self._body(side, body, record["requestId"], now)
            if count is not None:
                record[side][f"{side}TokenCount"] = count
        self._deliver(record, now)

    def _body(self, side: str, body: Any, request_id: str, now: datetime) -> Request:
        """Return the members of a body; one that is large is written to S3."""
        assert self._config is not None
        text = json.dumps(body)
        large = self._config.get("cloudWatchConfig", {}).get("largeDataDeliveryS3Config")
        place = self._config.get("s3Config") or large
        if len(text) <= _LARGE_BYTES or place is None:
            return {f"{side}BodyJson": body}
        key = f"{self._folder(place, now)}/data/{request_id}_{side}.json.gz"
        self._put_object(place["bucketName"], key, text)
        return {f"{side}BodyS3Path": f"s3://{place['bucketName']}/{key}"}

    def _deliver(self, record: Request, now: datetime) -> None:
        assert self._config is not None
        text = json.dumps(record)
        if place := self._config.get("cloudWatchConfig"):
            logs, group = self._account.client("logs"), place["logGroupName"]
            with suppress(ClientError):
                logs.create_log_stream(logGroupName=group, logStreamName=_STREAM)
            event = {"timestamp": int(now.timestamp() * 1000), "message": text}
            logs.put_log_events(logGroupName=group, logStreamName=_STREAM, logEvents=[event])
        if place := self._config.get("s3Config"):
            name = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z_{uuid.uuid4().hex[:16]}"
            key = f"{self._folder(place, now)}/{name}.json.gz"
            self._put_object(place["bucketName"], key, text + "\n")

    def _folder(self, place: Mapping[str, str], now: datetime) -> str:
        home = f"AWSLogs/{ACCOUNT}/BedrockModelInvocationLogs/{self._account.region}"
        return f"{place.get('keyPrefix', '')}/{home}/{now:%Y/%m/%d/%H}".lstrip("/")

    def _put_object(self, bucket: str, key: str, text: str) -> None:
        body = gzip.compress(text.encode())
        self._account.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
