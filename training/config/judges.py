"""Section `judge:` or `teacher:`: a local model, an OpenAI-compatible endpoint, or Bedrock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from training.config.base import ConfigSection
from training.config.locations import FileLocation, ModelLocation
from training.config.types import DurationS, PositiveInt


class JudgeSection(ConfigSection):
    """Section of one kind of judge."""

    impl: ClassVar[str]
    """`module:function` that builds it; imported only when a run starts."""
    remote: ClassVar[bool] = True
    """True if a reply is a network call, which may cost money."""

    max_new_tokens: PositiveInt = 512
    """Longest reply."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 for greedy decoding."""
    retries: int = Field(default=3, ge=0)
    """Number of retries after a failed call or a reply that cannot be used."""


class TokenPrice(ConfigSection):
    """Price of a judge in US dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Endpoint(JudgeSection):
    """Settings that judges behind a network API share."""

    renamed: ClassVar[Mapping[str, str]] = {"at_once": "concurrency"}

    model: str
    """Name of the model at the endpoint."""
    timeout: DurationS = Field(default="60s", validate_default=True)
    """Time limit per reply."""
    concurrency: PositiveInt = 8
    """Calls in flight at the same time."""
    calls_per_minute: PositiveInt | None = None
    """Largest number of calls per minute; unlimited if not set."""
    price: TokenPrice | None = None
    """Price of a call. With `resources.max_cost` set, a judge without a price is refused."""


class OpenAiJudge(Endpoint):
    """Endpoint with OpenAI's chat completions API: OpenAI, vLLM, llama.cpp, Ollama."""

    impl = "training.judges.openai:build"

    kind: Literal["openai"]
    url: str
    """Base URL of the API, such as http://localhost:8000/v1."""
    api_key_env: str | None = None
    """Environment variable with the API key, if the endpoint needs one."""


class BedrockJudge(Endpoint):
    """Model on Amazon Bedrock, called through the Converse API.

    Calls are signed with the AWS credentials of this process, or carry the Bedrock API key of the
    environment variable AWS_BEARER_TOKEN_BEDROCK if it is set.
    """

    impl = "training.judges.bedrock:build"

    kind: Literal["bedrock"]
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    url: str | None = None
    """URL in place of the Region's public endpoint, such as that of a private endpoint."""


class LocalJudge(JudgeSection):
    """Model on this machine; that of the job if no source is given."""

    impl = "training.judges.local:build"
    remote = False

    kind: Literal["local"]
    source: ModelLocation | None = None
    """Folder or Hub id."""
    chat_template: FileLocation | None = None
    """Chat template, as in `model:`."""
    batch_size: PositiveInt = 16
    """Prompts per batch."""


AnyJudge = Annotated[OpenAiJudge | BedrockJudge | LocalJudge, Field(discriminator="kind")]
