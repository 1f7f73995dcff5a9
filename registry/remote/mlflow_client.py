"""Client of an MLflow server or store, and its errors in the words of the registry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from registry.errors import RegistryError, RemoteUnavailableError
from training.errors import TemperError

# Seven retries, MLflow's default, make the user of a server that is down wait four minutes.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# A refusal of ours, a missing package, or a bug.
_OURS = (TemperError, ImportError, TypeError, AttributeError, KeyError, AssertionError)
_SQLITE = "sqlite:///"
_PASSWORD = re.compile(r"://[^/@]*@")


def shown(uri: str) -> str:
    """Return an address without the user and password that it may carry."""
    return _PASSWORD.sub("://", uri)


def artifacts_of(uri: str) -> Path | None:
    """Return the folder of the artifacts of a database in a file; None of a server, which decides.

    MLflow's own choice is `mlruns/` in the folder where a command is started.
    """
    return _database(uri).parent / "mlartifacts" if uri.startswith(_SQLITE) else None


def _database(uri: str) -> Path:
    return Path(uri.removeprefix(_SQLITE)).resolve()


def open_client(uri: str) -> Any:
    """Return an `MlflowClient` of a server, of the managed app of an ARN, or of a database.

    Raises:
        RegistryError: It cannot be opened, or a package is missing.
    """
    if uri.startswith("arn:") and find_spec("sagemaker_mlflow") is None:
        raise RegistryError(
            f"{uri}: an MLflow app of SageMaker needs the package sagemaker-mlflow: "
            'pip install "temper[account]"'
        )
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with explain_mlflow_errors(uri):
        # Takes seconds to import.
        from mlflow.tracking import MlflowClient

        with _lock(uri):
            client = MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)
            client.search_registered_models(max_results=1)
            return client


@contextmanager
def _lock(uri: str) -> Iterator[None]:
    """Hold the lock of a database in a file: two processes must not both create its tables."""
    if not uri.startswith(_SQLITE):
        yield
        return
    from filelock import FileLock

    with FileLock(_database(uri).parent / ".mlflow.lock", timeout=60):
        yield


@contextmanager
def explain_mlflow_errors(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow's client into messages.

    Raises:
        RemoteUnavailableError: One was raised.
    """
    try:
        yield
    except Exception as error:  # MLflow's, requests', SQLAlchemy's, those of cloud stores
        if isinstance(error, _OURS):
            raise
        raise RemoteUnavailableError(_message(uri, error)) from error


@contextmanager
def unless(code: str) -> Iterator[None]:
    """Let an error of MLflow with a code, such as `RESOURCE_ALREADY_EXISTS`, pass silently.

    Raises:
        MlflowException: It has another code.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != code:
            raise


def _message(uri: str, error: Exception) -> str:
    text = _reason(error)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if hasattr(error, "get_http_status_code"):
        status = error.get_http_status_code()
    if status in (401, 403):
        fix = (
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, "
            "of a user who may write"
        )
    else:
        fix = "Check that it runs, or name another with --tracking-uri. What has arrived is kept"
    return f"MLflow at {shown(uri)}: {text}. {fix}"


def _reason(error: BaseException) -> str:
    """Return the reason of the system, if it is one, else the first line of the message."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    lines = str(error).strip().splitlines()
    return shown(lines[0] if lines else type(error).__name__)[:300].rstrip(".")
