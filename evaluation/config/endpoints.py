"""Models behind an endpoint that are evaluated: a YAML file, or a short form on the command line.

The sections are those of judges, without the settings that the tasks of a suite have.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ValidationError, model_validator

from evaluation.config.suite import Suite
from evaluation.config.tasks import GenerationTask, MultipleChoice
from training.config.judges import BedrockJudge, OpenAiJudge
from training.config.load import read_document
from training.config.locations import ModelLocation
from training.config.types import PositiveInt
from training.errors import JobError, Problem
from validation.error_messages import explain

_SUFFIXES = (".yaml", ".yml", ".json")
_TASK_KEYS = ("max_new_tokens", "temperature")
_ARN_REGION = re.compile(r"^arn:aws[\w-]*:bedrock:([a-z0-9-]+):")
_OPENAI, _BEDROCK = "openai:", "bedrock:"
_OPENAI_FORM = "openai:http://localhost:8000/v1#MODEL"


def _as_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an address: write it as http://localhost:8000/v1")
    if parts.username or parts.password:
        raise ValueError("an address is recorded in results: name the key with api_key_env")
    return value


def _refuse_task_keys(document: Any) -> Any:
    keys = [key for key in _TASK_KEYS if isinstance(document, dict) and key in document]
    if keys:
        raise ValueError(f"{' and '.join(keys)}: the tasks of the suite set these")
    return document


class OpenAiModel(OpenAiJudge):
    """Model that is evaluated at an endpoint with OpenAI's API: vLLM, llama.cpp, OpenAI."""

    url: Annotated[str, AfterValidator(_as_address)]
    """Base URL of the API, such as http://localhost:8000/v1."""
    revision: str | None = None
    """Version of the model behind the name. Replies are cached by it: change it, or serve another
    name, when other weights are served."""
    tokenizer: ModelLocation | None = None
    """Folder or Hub id of the model's tokenizer. With it, likelihoods are asked of tokens, exactly
    those that a local evaluation scores; without it, of text."""
    context_length: PositiveInt | None = None
    """Context in tokens, if the endpoint does not list it as vLLM does (max_model_len)."""
    text_prompts: Literal["completions", "chat"] = "completions"
    """API that prompts of tasks without `chat` go to; `chat` sends them as a user's message."""

    _own_keys = model_validator(mode="before")(_refuse_task_keys)


class BedrockModel(BedrockJudge):
    """Model on Amazon Bedrock that is evaluated through the Converse API."""

    revision: str | None = None
    """Version of the model behind the name, by which replies are cached."""

    _own_keys = model_validator(mode="before")(_refuse_task_keys)


EndpointModelSection = OpenAiModel | BedrockModel
_KINDS: dict[str, type[OpenAiModel] | type[BedrockModel]] = {
    "openai": OpenAiModel,
    "bedrock": BedrockModel,
}


def read_endpoint(name: str) -> EndpointModelSection | None:
    """Return the section of the endpoint that a user names; None if it is no endpoint.

    Args:
        name: A YAML file, `openai:URL#MODEL` or `bedrock:MODEL`; anything else is no endpoint.

    Raises:
        JobError: The file or the short form cannot be used; lists every problem.
    """
    if name.startswith(_OPENAI):
        url, _, model = name.removeprefix(_OPENAI).partition("#")
        if not url or not model:
            fix = f"Write it as {_OPENAI_FORM}"
            raise JobError(name, [Problem("(model)", "an address or a model is missing", fix=fix)])
        return _validated(name, {"kind": "openai", "url": url, "model": model})
    if name.startswith(_BEDROCK):
        return _validated(name, _bedrock_document(name))
    path = Path(name)
    if path.is_dir() or path.suffix not in _SUFFIXES:
        return None
    document = read_document(path, hint="Name a file with kind: openai or kind: bedrock")
    if not isinstance(document, dict):
        raise JobError(name, [Problem("(file)", "an endpoint is a mapping: kind, url, model")])
    return _validated(name, document)


def _bedrock_document(name: str) -> dict[str, Any]:
    model = name.removeprefix(_BEDROCK)
    arn = _ARN_REGION.match(model)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    region = arn[1] if arn else region
    if not region:
        fix = "Set AWS_REGION, or name a YAML file with region"
        raise JobError(name, [Problem("region", "the Region of the model is not known", fix=fix)])
    return {"kind": "bedrock", "region": region, "model": model}


def _validated(source: str, document: dict[str, Any]) -> EndpointModelSection:
    kind = document.get("kind")
    section = _KINDS.get(kind) if isinstance(kind, str) else None
    if section is None:
        fix = f"Choose {' or '.join(_KINDS)}"
        raise JobError(source, [Problem("kind", "not a kind of endpoint", repr(kind), fix)])
    try:
        return section.model_validate(document)
    except ValidationError as error:
        raise JobError(source, explain(error, section)) from None


def unsupported_tasks(section: EndpointModelSection, suite: Suite) -> Iterator[Problem]:
    """Yield the tasks of a suite that an endpoint cannot be asked, whatever it answers.

    Args:
        section: Section of the endpoint.
        suite: The suite.
    """
    for index, task in enumerate(suite.tasks):
        if isinstance(task, GenerationTask):
            continue
        key = f"tasks.{index}"
        if isinstance(section, BedrockModel):
            message = "needs log-probabilities of given text, which Bedrock does not return"
            fix = "Evaluate the model's folder, or an endpoint of temper serve or vLLM"
            yield Problem(key, message, f"{task.name}: {task.kind}", fix)
        elif isinstance(task, MultipleChoice) and task.chat and section.tokenizer is None:
            message = "an endpoint has no log-probabilities of given text in a conversation"
            fix = "Name the model's tokenizer, whose chat template is used, or leave out chat"
            yield Problem(f"{key}.chat", message, f"{task.name}: {section.model}", fix)
