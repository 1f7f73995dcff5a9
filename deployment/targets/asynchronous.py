"""Deployment to an asynchronous endpoint: requests wait in a queue, answers are files in S3.

Its instances follow the number of requests that wait, down to none.
https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError
from deployment.quote import DeploymentQuote, instance_quote
from deployment.record import end_tags, end_words
from deployment.sagemaker.alarms import backlog_alarm
from deployment.sagemaker.checks import common_problems
from deployment.sagemaker.requests import FILES, config_request
from deployment.sagemaker.scaling import backlog_metric, register_scaling, variant_of
from deployment.targets.base import DeploymentRequest, ignored_problems
from deployment.targets.endpoint import OF_OTHERS, EndpointTarget
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import explain_aws_errors
from training.errors import Problem

_ANSWER_TIMEOUT_S = 3600.0


def connect(account: DeploymentAccount) -> AsynchronousTarget:
    """Return the target in an account."""
    return AsynchronousTarget(account)


class AsynchronousTarget(EndpointTarget):
    """Asynchronous endpoints with one model."""

    kind = "async"

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        yield from ignored_problems(request, *OF_OTHERS)
        yield from common_problems(self.account, request)

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the deployment costs: without requests that of the fewest instances."""
        spec = request.spec
        assert spec.instance is not None
        least, most = spec.copy_limits
        wakes = "the first request after a pause waits until an instance has started"
        return instance_quote(
            spec.instance,
            (spec.first_copies, least, most),
            end_words(end_tags(spec.end)),
            region=self.account.environment.region,
            notes=(wakes,) if least == 0 else (),
        )

    def config(self, request: DeploymentRequest, model_name: str) -> dict[str, Any]:
        """Return the request CreateEndpointConfig."""
        output = {
            "S3OutputPath": f"{self._folder(request.spec.name)}/answers",
            "S3FailurePath": f"{self._folder(request.spec.name)}/failures",
            "KmsKeyId": self.account.platform["keys/data"],
        }
        return config_request(
            self.account, request, model_name, AsyncInferenceConfig={"OutputConfig": output}
        )

    def scale(self, request: DeploymentRequest) -> None:
        """Scale the instances by the requests that wait, and start the first one from none."""
        scaling = request.spec.scaling
        if scaling is not None and scaling.max > scaling.min:
            name = self.endpoints.name(request.spec.name)
            register_scaling(
                self.account,
                variant_of(name),
                scaling,
                tracking=backlog_metric(name),
                wake=(name, backlog_alarm),
            )

    def ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of a deployment to a body of OpenAI's protocol.

        Raises:
            DeployModelError: The request failed, or was not answered in an hour.
        """
        store, endpoint = S3Store(self.account.client("s3")), self.endpoints.name(name)
        request = S3Uri.parse(f"{self._folder(name)}/requests/{uuid.uuid4().hex}.json")
        store.put_text(json.dumps(body), request)
        with explain_aws_errors(f"asking {endpoint}"):
            sent = self.account.client("sagemaker-runtime").invoke_endpoint_async(
                EndpointName=endpoint, ContentType="application/json", InputLocation=str(request)
            )
        answer, failure = (S3Uri.parse(sent[key]) for key in ("OutputLocation", "FailureLocation"))
        text = self.account.polling.until(
            lambda: store.get_text(answer) or _failure(store.get_text(failure)),
            lambda text: text is not None,
            what=f"the answer of {endpoint}",
            timeout_s=_ANSWER_TIMEOUT_S,
        )
        content = json.loads(text or "null")
        if not isinstance(content, dict):
            raise DeployModelError(f"{endpoint} did not answer with JSON: {str(text)[:200]}")
        return content

    def _folder(self, name: str) -> str:
        return f"s3://{self.account.platform['buckets/runs']}/{FILES}/{name}"


def _failure(text: str | None) -> str | None:
    """Raise the failure of a request, if there is one.

    Raises:
        DeployModelError: There is one.
    """
    if text is not None:
        raise DeployModelError(f"the request failed: {text[:500]}")
    return None
