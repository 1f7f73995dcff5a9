"""Choice of a remote registry by its kind."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from registry.errors import RegistryError
from registry.remote.base import RemoteRegistry

KINDS = ("sagemaker", "mlflow")


def connect_remote(kind: str, environment: str | None, uri: str | None = None) -> RemoteRegistry:
    """Return the remote registry of a kind, by the function `connect` of its module.

    Args:
        kind: One of `KINDS`.
        environment: Name of the environment of the platform; None if the user named none.
        uri: Address of an MLflow server; None if the user named none.

    Raises:
        RegistryError: There is no such kind, or it needs an environment.
        LaunchError: The environment is not deployed, or the server cannot be reached.
    """
    if kind not in KINDS:
        raise RegistryError(f"{kind!r} is not a registry. Registries: {', '.join(KINDS)}")
    if uri is not None and kind != "mlflow":
        raise RegistryError("--tracking-uri names an MLflow server: --to mlflow")
    connect = import_module(f"registry.remote.{kind}").connect
    return cast(RemoteRegistry, connect(environment, uri) if uri else connect(environment))
