"""List of the models at an endpoint with OpenAI's API, which costs nothing to read.

https://platform.openai.com/docs/api-reference/models/list
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from evaluation.config.endpoints import OpenAiModel
from training.errors import RunError
from training.judges.retries import describe, refusal_hint

_REFUSED = (401, 403)


def list_models(section: OpenAiModel, headers: dict[str, str]) -> Mapping[str, Mapping[str, Any]]:
    """Return what an endpoint says of each of its models; empty if it has no list.

    Args:
        section: Section of the endpoint.
        headers: Headers that carry its key.

    Raises:
        RunError: The endpoint cannot be reached, or refuses the key.
    """
    address = f"{section.url.rstrip('/')}/models"
    try:
        with httpx2.Client(timeout=section.timeout) as client:
            response = client.get(address, headers=headers)
            response.raise_for_status()
            return {str(model["id"]): dict(model) for model in response.json()["data"]}
    except httpx2.HTTPStatusError as error:
        if error.response.status_code not in _REFUSED:
            return {}
        raise RunError(
            f"the endpoint at {section.url} refuses the call ({describe(error)}). "
            f"{refusal_hint(error)}"
        ) from error
    except httpx2.HTTPError as error:
        raise RunError(
            f"the endpoint at {section.url} cannot be reached ({describe(error)}). Correct its "
            f"address, or rerun the same command when it is available"
        ) from error
    except (ValueError, KeyError, TypeError):
        return {}


def listed_context_length(model: Mapping[str, Any]) -> int | None:
    """Return the context in tokens in a model's entry, as vLLM lists it; None if it has none."""
    length = model.get("max_model_len")
    return length if isinstance(length, int) and length > 0 else None
