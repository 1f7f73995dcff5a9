"""Fields that completions and chat completions share."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from serving.engine.requests import AnswerSettings
from serving.engine.sampling import SamplingSettings
from serving.errors import RequestError

_MAX_CHOICES = 128
MAX_TOP_LOG_PROBS = 20
"""Most likely tokens that can be requested at each place, as in vLLM."""
_NO_EFFECT = ("frequency_penalty", "presence_penalty", "logit_bias")
Body = TypeVar("Body", bound=BaseModel)


class StreamOptions(BaseModel):
    """Options of a streamed answer.

    Attributes:
        include_usage: Whether a last part says how many tokens were used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    include_usage: bool = False
    include_obfuscation: bool | None = None


class SharedFields(BaseModel):
    """Fields of every request for an answer.

    The fields that say who asks or how the answer is accounted for are accepted and change nothing.
    A field that would change the answer and is not implemented is refused, never ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    seed: int | None = None
    n: int | None = Field(default=None, ge=1, le=_MAX_CHOICES)
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    user: Any = None
    store: Any = None
    metadata: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    @field_validator(*_NO_EFFECT)
    @classmethod
    def _not_implemented(cls, value: Any) -> Any:
        if value:
            raise ValueError("is not implemented. Leave it out, or set 0")
        return value

    @field_validator("stop")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if value == "" or (isinstance(value, list) and "" in value):
            raise ValueError("has an empty text, which would end every answer at once")
        return value

    @property
    def choices(self) -> int:
        """Number of answers to each prompt."""
        return self.n or 1

    def answer_settings(
        self,
        choice: int,
        prompt_seed: int,
        max_tokens: int,
        log_probs: int | None,
        prompt_log_probs: int | None = None,
    ) -> AnswerSettings:
        """Return the settings of an answer.

        Args:
            choice: Number of the answer to its prompt.
            prompt_seed: Number that depends on the prompt alone.
            max_tokens: Longest answer.
            log_probs: Most likely tokens to report at each place; None for nothing.
            prompt_log_probs: The same for the prompt.
        """
        # The stream of `temper evaluate`: its seed, the number of the sample, the prompt.
        seed = None if self.seed is None else (self.seed % 2**63, choice, prompt_seed)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        sampling = SamplingSettings(
            1.0 if self.temperature is None else self.temperature,
            1.0 if self.top_p is None else self.top_p,
            max(self.top_k or 0, 0),
            seed,
        )
        return AnswerSettings(
            max_tokens, sampling, tuple(stop), self.ignore_eos, log_probs, prompt_log_probs
        )


def parse_body(kind: type[Body], document: Any) -> Body:
    """Return the body of a request.

    Args:
        kind: What it should be.
        document: Its JSON.

    Raises:
        RequestError: It has problems; names all of them.
    """
    if not isinstance(document, dict):
        raise RequestError("the body is not a JSON object")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        lines = [_problem(kind, problem) for problem in problems]
        first = problems[0]["loc"]
        raise RequestError("; ".join(lines), param=str(first[0]) if first else None) from None


def _problem(kind: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        fields = ", ".join(sorted(kind.model_fields))
        return f"{where} is not a field of this request. Fields: {fields}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "value_error":
        return f"{where} {message}"
    return f"{where}: {message[0].lower()}{message[1:]}, not {_shortened(problem['input'])}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
