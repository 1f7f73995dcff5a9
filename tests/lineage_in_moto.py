"""Lineage of SageMaker in moto, which lacks it: operations that botocore validates."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from botocore import xform_name
from moto.core.exceptions import JsonRESTError
from moto.sagemaker.responses import SageMakerResponse

from emulator.aws_service import AwsService
from emulator.lineage import LineageApi
from emulator.request_validation import RequestRejected


@contextmanager
def lineage_in_moto() -> Iterator[AwsService]:
    """Answer the operations of lineage in moto while the block runs, and yield the service."""
    operations = LineageApi("us-east-1").operations()
    service = AwsService("sagemaker", operations)
    with ExitStack() as patches:
        for action in operations:
            answer = _answer(service, action)
            patches.enter_context(
                patch.object(SageMakerResponse, xform_name(action), answer, create=True)
            )
        yield service


def _answer(service: AwsService, action: str) -> Callable[[Any], str]:
    def answer(response: Any) -> str:
        try:
            return json.dumps(service.call(action, json.loads(response.body)))
        except RequestRejected as error:
            raise JsonRESTError(error.code, error.message) from None

    return answer
