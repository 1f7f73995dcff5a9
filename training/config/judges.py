"""`judge:`, or a `teacher:` that writes: a model here, an OpenAI-protocol endpoint, or Bedrock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from training.config.base import ConfigSection
from training.config.locations import FileLocation, ModelLocation
from training.config.types import DurationS, PositiveInt


class JudgeSection(ConfigSection):
    """What every judge declares."""

    impl: ClassVar[str]
    """`module:function` that makes it, imported only when used."""
    remote: ClassVar[bool] = True
    """Whether asking it means a call that may cost money."""

    max_new_tokens: PositiveInt = 512
    """Longest reply."""
    temperature: float = Field(default=0.0, ge=0)
    """0 for the likeliest reply."""
    retries: int = Field(default=3, ge=0)
    """How often a failed call, or a reply that answers nothing, is repeated."""


class TokenPrice(ConfigSection):
    """What a judge takes, in US dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Endpoint(JudgeSection):
    """Settings that judges behind a network API share."""

    renamed: ClassVar[Mapping[str, str]] = {"at_once": "concurrency"}

    model: str
    """The model's name there."""
    timeout: DurationS = Field(default="60s", validate_default=True)
    """Time for one reply."""
    concurrency: PositiveInt = 8
    """Calls in flight at the same time."""
    calls_per_minute: PositiveInt | None = None
    """Most calls begun in a minute; as many as it takes when left out."""
    price: TokenPrice | None = None
    """What it costs. With `resources.max_cost` set, a judge without a price is refused."""


class OpenAiJudge(Endpoint):
    """An endpoint that speaks OpenAI's chat protocol: OpenAI's own, vLLM, llama.cpp, Ollama."""

    impl = "training.judges.openai:build"

    kind: Literal["openai"]
    url: str
    """The endpoint's base, such as http://localhost:8000/v1."""
    api_key_env: str | None = None
    """Environment variable that holds the key, where the endpoint wants one."""


class BedrockJudge(Endpoint):
    """A model on Amazon Bedrock, through its Converse API.

    Calls are signed with this process's AWS identity (a profile, a role), or bear the Bedrock API
    key in the environment variable AWS_BEARER_TOKEN_BEDROCK where that is set.
    """

    impl = "training.judges.bedrock:build"

    kind: Literal["bedrock"]
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    url: str | None = None
    """Another address than the region's own, such as a private endpoint."""


class LocalJudge(JudgeSection):
    """A model on this machine; the job's own where no source is given."""

    impl = "training.judges.local:build"
    remote = False

    kind: Literal["local"]
    source: ModelLocation | None = None
    """A folder or Hub id."""
    chat_template: FileLocation | None = None
    """As in `model:`."""
    batch_size: PositiveInt = 16
    """Questions answered at once."""


AnyJudge = Annotated[OpenAiJudge | BedrockJudge | LocalJudge, Field(discriminator="kind")]
