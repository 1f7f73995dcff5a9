"""Client for applications: one interface to SageMaker endpoints, Bedrock and OpenAI's protocol.

Applications import it as `temper.client` (docs/client.md).
"""

from client.async_client import AsyncClient
from client.chat import AnswerDelta, ChatAnswer, ChatCall, TokenUsage
from client.chat_stream import AsyncChatStream
from client.circuit_breaker import CircuitBreakerPolicy
from client.endpoints.address import endpoint_from_address
from client.endpoints.base import ChatEndpoint
from client.endpoints.bedrock_endpoint import BedrockEndpoint, ConverseGuardrail
from client.endpoints.openai_endpoint import OpenAiEndpoint
from client.endpoints.sagemaker_endpoint import SageMakerEndpoint
from client.errors import (
    AccessRefusedError,
    CircuitOpenError,
    ClientError,
    EndpointError,
    GuardrailBlockedError,
    InvalidArgumentError,
    MaskingError,
    NoEndpointAnsweredError,
    RequestRefusedError,
    StreamInterruptedError,
    ThrottledError,
    UnavailableError,
)
from client.guardrails import BedrockGuardrail, GuardrailHook, GuardrailVerdict
from client.hedging import HedgePolicy
from client.masking import PersonalDataMask
from client.metrics import CallRecord, EmfMetrics
from client.prices import TokenRates
from client.response_cache import ResponseCache
from client.retries import RetryPolicy
from client.settings import ClientSettings
from client.sync_client import ChatStream, Client

__all__ = [
    "AccessRefusedError",
    "AnswerDelta",
    "AsyncChatStream",
    "AsyncClient",
    "BedrockEndpoint",
    "BedrockGuardrail",
    "CallRecord",
    "ChatAnswer",
    "ChatCall",
    "ChatEndpoint",
    "ChatStream",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "Client",
    "ClientError",
    "ClientSettings",
    "ConverseGuardrail",
    "EmfMetrics",
    "EndpointError",
    "GuardrailBlockedError",
    "GuardrailHook",
    "GuardrailVerdict",
    "HedgePolicy",
    "InvalidArgumentError",
    "MaskingError",
    "NoEndpointAnsweredError",
    "OpenAiEndpoint",
    "PersonalDataMask",
    "RequestRefusedError",
    "ResponseCache",
    "RetryPolicy",
    "SageMakerEndpoint",
    "StreamInterruptedError",
    "ThrottledError",
    "TokenRates",
    "TokenUsage",
    "UnavailableError",
    "endpoint_from_address",
]
