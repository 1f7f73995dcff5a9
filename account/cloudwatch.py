"""Publication of CloudWatch metrics with the credentials of this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from account.errors import AccountError

_DATA_PER_CALL = 500
"""CloudWatch accepts 1,000 data and 1 MB in a request:
docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html"""
_CONNECT_TIMEOUT_S = 5
"""Short, because a network without a route to the service drops packets silently."""


class MetricPublisher:
    """Publisher to one namespace.

    Args:
        namespace: Namespace of the metrics.
    """

    def __init__(self, namespace: str):
        self._namespace = namespace
        self._client: Any = None

    def put(self, data: Sequence[dict[str, Any]]) -> None:
        """Publish metric data, as `PutMetricData` takes them.

        Raises:
            AccountError: They were refused, or CloudWatch cannot be reached.
        """
        try:
            client = self._connect()
            for start in range(0, len(data), _DATA_PER_CALL):
                client.put_metric_data(
                    Namespace=self._namespace, MetricData=list(data[start : start + _DATA_PER_CALL])
                )
        except AccountError:
            raise
        except Exception as error:  # botocore has a dozen classes for a denied request
            raise AccountError(f"{type(error).__name__}: {error}") from error

    def _connect(self) -> Any:
        if self._client is None:
            try:
                import boto3
                from botocore.config import Config
            except ImportError as error:
                raise AccountError("boto3 is not installed (pip install boto3)") from error
            config = Config(
                connect_timeout=_CONNECT_TIMEOUT_S, read_timeout=10, retries={"mode": "standard"}
            )
            region = os.environ.get("AWS_REGION")
            self._client = boto3.client("cloudwatch", region_name=region, config=config)
        return self._client
