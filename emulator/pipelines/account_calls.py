"""Calls that the service makes for a pipeline, with the role of its executions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from emulator.aws_service import AwsService
from emulator.botocore_schema import validation_errors
from emulator.request_validation import Client, RequestRejected, reject
from launch.aws.s3 import S3Uri


class AccountCalls:
    """Calls of operations of SageMaker, and reads from S3.

    Args:
        client: Returns the boto3 client of a service of the emulated account.
        sagemaker: Returns the emulated service, which is built after its operations.
    """

    def __init__(self, client: Client, sagemaker: Callable[[], AwsService]):
        self._client, self._sagemaker = client, sagemaker

    def call(self, action: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Execute an operation, of the emulated account if the service does not have it.

        Raises:
            RequestRejected: The operation refuses the request.
        """
        service = self._sagemaker()
        if service.has(action):
            return service.call(action, parameters)
        if errors := validation_errors("sagemaker", action, parameters):
            reject(f"{len(errors)} validation error(s) detected: {'; '.join(errors)}")
        try:
            answer = getattr(self._client("sagemaker"), xform_name(action))(**parameters)
        except ClientError as error:
            refused = error.response["Error"]
            raise RequestRejected(refused["Code"], refused["Message"]) from error
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    def read(self, address: str) -> bytes:
        """Return the content of an object.

        Raises:
            FileNotFoundError: It does not exist.
        """
        uri = S3Uri.parse(address)
        try:
            answer = self._client("s3").get_object(Bucket=uri.bucket, Key=uri.key)
        except ClientError as error:
            raise FileNotFoundError(address) from error
        content: bytes = answer["Body"].read()
        return content
