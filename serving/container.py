"""Settings of a server in a container, from environment variables `TEMPER_SERVE_…`.

SageMaker starts a container with the argument `serve`, the model in `/opt/ml/model`, and the
variables of the request for the model. It reaches port 8080, and asks `/ping` until the answer is
200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serving.command import ServeError, ServeOptions

MODEL = Path("/opt/ml/model")
ADAPTERS = "adapters"
"""Folder in a model's folder, of which each folder is an adapter that is loaded with the model."""
PREFIX = "TEMPER_SERVE_"
_ENDPOINT_PORT = "SAGEMAKER_BIND_TO_PORT"
_DEFAULT_NAME = "model"
_SETTINGS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "MODEL": ("model", str),
    "NAME": ("name", str),
    "ENGINE": ("engine", str),
    "PORT": ("port", int),
    "MAX_RUNNING": ("max_running", int),
    "MAX_WAITING": ("max_waiting", int),
    "MAX_CONTEXT": ("max_context", int),
    "TIMEOUT": ("timeout", float),
    "MAX_LORA_RANK": ("max_lora_rank", int),
    "TENSOR_PARALLEL": ("tensor_parallel", int),
    "LOG_REQUESTS": ("log_requests", Path),
}
_ADAPTERS = "ADAPTERS"


def options_from_environment(environment: Mapping[str, str]) -> ServeOptions:
    """Return the options of a container's server.

    Args:
        environment: Environment variables of the container.

    Raises:
        ServeError: Some variables cannot be used; names all of them.
    """
    given = {
        name.removeprefix(PREFIX): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    values: dict[str, Any] = {
        "model": str(MODEL),
        "name": _DEFAULT_NAME,
        "port": int(environment.get(_ENDPOINT_PORT) or 8080),
    }
    problems = []
    for name, text in given.items():
        if name == _ADAPTERS:
            continue
        if name not in _SETTINGS:
            known = ", ".join(sorted({*_SETTINGS, _ADAPTERS}))
            problems.append(f"{PREFIX}{name} is not a setting. After {PREFIX}: {known}")
            continue
        field, convert = _SETTINGS[name]
        try:
            values[field] = convert(text)
        except ValueError:
            problems.append(f"{PREFIX}{name} must be a number, and is {text!r}")
    if problems:
        raise ServeError("\n".join(problems))
    adapters = (*_adapters_of(Path(values["model"])), *given.get(_ADAPTERS, "").split())
    # The service that runs the container decides who reaches it.
    return ServeOptions(
        **values,
        adapters=adapters,
        host="0.0.0.0",
        api_key=environment.get("TEMPER_API_KEY") or None,
        needs_key=False,
    )


def _adapters_of(model: Path) -> list[str]:
    """Return the adapters that lie in a model's folder, as `NAME=FOLDER`."""
    folders = sorted((model / ADAPTERS).glob("*/adapter_config.json"))
    return [f"{file.parent.name}={file.parent}" for file in folders]
