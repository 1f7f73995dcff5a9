"""Endpoints from an address, as an application reads them from its environment."""

from __future__ import annotations

from client.endpoints.base import ChatEndpoint
from client.endpoints.bedrock_endpoint import BedrockEndpoint
from client.endpoints.openai_endpoint import OpenAiEndpoint
from client.endpoints.sagemaker_endpoint import SageMakerEndpoint
from client.errors import InvalidArgumentError

_FORMS = (
    "openai:http://127.0.0.1:8000/v1#MODEL, sagemaker:ENDPOINT, sagemaker:ENDPOINT/COMPONENT or "
    "bedrock:MODEL-OR-ARN"
)


def endpoint_from_address(address: str, *, api_key_env: str | None = None) -> ChatEndpoint:
    """Return the endpoint that an address names, such as an environment variable holds.

    Args:
        address: `openai:URL#MODEL`, `sagemaker:ENDPOINT[/COMPONENT][#MODEL]` or `bedrock:MODEL`.
        api_key_env: Environment variable with the key, for `openai:`.

    Raises:
        InvalidArgumentError: It is not of one of these forms.
    """
    kind, _, rest = address.partition(":")
    if kind == "bedrock" and rest:
        return BedrockEndpoint(rest)
    place, _, model = rest.partition("#")
    if kind == "openai" and place and model:
        return OpenAiEndpoint(place, model, api_key_env=api_key_env)
    if kind == "sagemaker" and place:
        endpoint, _, component = place.partition("/")
        return SageMakerEndpoint(endpoint, component=component or None, model=model or None)
    raise InvalidArgumentError([f"the address of an endpoint is {_FORMS} (got {address!r})"])
