"""MLflow's model registry: a registered model per name, a model version per version.

MLflow counts versions; the semantic version is a tag. Stages are aliases, so that
`models:/NAME@production` is the version in production (MLflow's own stages are deprecated).
"""

from __future__ import annotations

import os
from typing import Any

from registry.blobs import blob_path
from registry.errors import RegistryError
from registry.record import ModelRecord, StageChange
from registry.remote import mlflow_tags as tags
from registry.remote.base import RemoteVersion, digest_differences
from registry.remote.mlflow_client import (
    artifacts_of,
    explain_mlflow_errors,
    open_client,
    shown,
    unless,
)
from registry.remote.mlflow_files import check_files, record_digest, upload
from registry.remote.mlflow_run import log_evaluations, run_of
from registry.remote.mlflow_stage import change_stage, current_change
from registry.remote.mlflow_versions import aliases_of, versions_by_model
from registry.store import LocalRegistry
from registry.version import parse_version
from training.config.model_references import RUNS

_CARD = "model/README.md"


class MlflowRegistry:
    """Model registry of an MLflow server or database.

    Args:
        uri: Address of the server (`https://…`), the database (`sqlite:///…`) or, on SageMaker,
            the ARN of the app. Artifacts of a database in a file are in `mlartifacts/` next to it.
    """

    one_per_stage = True

    def __init__(self, uri: str):
        self.uri = uri
        self.title = f"MLflow at {shown(uri)}"
        self._client: Any = None

    def open(self) -> None:
        """Connect to the server, unless that was done.

        Raises:
            RegistryError: It does not answer.
        """
        if self._client is None:
            self._client = open_client(self.uri)

    def push(self, record: ModelRecord, store: LocalRegistry) -> RemoteVersion:
        """Copy a version with its files; an existing copy is returned.

        The version is created when all its files have arrived, so that an interrupted push leaves
        no version, and its files are not sent again.

        Args:
            record: The version.
            store: Registry that has its files.

        Raises:
            RegistryError: The version exists with other files, a local file is damaged, or the
                server refuses.
        """
        existing = self._find(record)
        if existing is None:
            check_files(record, store)
            with self._explain():
                run = run_of(self._connected, record, artifacts_of(self.uri))
                folder = upload(self._connected, run.info.run_id, record, store)
                log_evaluations(self._connected, run.info.run_id, record)
                self._create(record, store, run, folder)
            existing = self._find(record)
            assert existing is not None
        differing = digest_differences(record, existing)
        if differing:
            raise RegistryError(
                f"{record.id} exists in {self.title} ({existing.address}) with other files: "
                f"{'; '.join(differing)}. Register the run under the next version, or delete the "
                f"one in MLflow"
            )
        return existing

    def versions(self, name: str | None = None) -> list[RemoteVersion]:
        """Return all versions that were pushed, or those of a name, oldest version first."""
        found = []
        with self._explain():
            for model, numbered in versions_by_model(self._connected, name).items():
                aliases = aliases_of(self._connected, model)
                values = {number: version.tags for number, version in numbered.items()}
                pushed: dict[str, int] = {}
                for number in sorted(numbered):
                    pushed.setdefault(numbered[number].tags[tags.VERSION], number)
                for text, number in pushed.items():
                    change = current_change(number, values, aliases)
                    held = [alias for alias, other in aliases.items() if other == number]
                    found.append(
                        RemoteVersion(
                            name=model,
                            version=parse_version(text),
                            trees=tags.trees_from_tags(values[number]),
                            address=f"models:/{model}/{number}",
                            change=change,
                            status=f"alias {', '.join(sorted(held))}" if held else "no alias",
                        )
                    )
        return sorted(found, key=lambda version: (version.name, version.version))

    def set_stage(self, record: ModelRecord, transition: StageChange) -> RemoteVersion:
        """Set the alias of a stage, and record who made the change and when.

        Args:
            record: The version.
            transition: The change.

        Raises:
            RegistryError: The version was not pushed, or the server refuses.
        """
        version = self._find(record)
        if version is None:
            raise RegistryError(
                f"{record.id} is not in {self.title}. Push it: temper push-model "
                f"{record.id} --to mlflow"
            )
        with self._explain():
            change_stage(
                self._connected, record.name, int(version.address.rpartition("/")[2]), transition
            )
        changed = self._find(record)
        assert changed is not None
        return changed

    @property
    def _connected(self) -> Any:
        self.open()
        return self._client

    def _explain(self) -> Any:
        return explain_mlflow_errors(self.uri)

    def _find(self, record: ModelRecord) -> RemoteVersion | None:
        versions = self.versions(record.name)
        return next((v for v in versions if v.version == record.version), None)

    def _create(self, record: ModelRecord, store: LocalRegistry, run: Any, folder: str) -> None:
        """Create the version; of several that were created at once, keep the first.

        Args:
            record: The version.
            store: Registry that has its model card.
            run: The run that has its files.
            folder: Their folder in the run's artifacts.
        """
        with unless("RESOURCE_ALREADY_EXISTS"):
            self._connected.create_registered_model(record.name)
        card = record.evidence.get(_CARD)
        created = self._connected.create_model_version(
            record.name,
            source=f"{run.info.artifact_uri}/{folder}",
            run_id=run.info.run_id,
            tags=tags.tags_of(record, record_digest(record)),
            description=tags.description(blob_path(store.root, card.sha256)) if card else None,
        )
        pushed = versions_by_model(self._connected, record.name)[record.name]
        same = [n for n, v in pushed.items() if v.tags[tags.VERSION] == str(record.version)]
        if int(created.version) > min(same):
            self._connected.delete_model_version(record.name, str(created.version))


def connect(environment: str | None, uri: str | None = None) -> MlflowRegistry:
    """Return a registry that answers.

    Args:
        environment: Name of the environment of the platform; None for none.
        uri: Address of a server, which comes before the environment.

    Raises:
        RegistryError: It does not answer, or none is named.
    """
    registry = registry_of(environment, uri)
    registry.open()
    return registry


def registry_of(environment: str | None, uri: str | None = None) -> MlflowRegistry:
    """Return the registry at an address, of an environment, or where the runs are tracked.

    Args:
        environment: Name of the environment of the platform; None for none.
        uri: Address of a server, which comes before the environment.

    Raises:
        RegistryError: The environment has no MLflow app, or there is no server and no run.
    """
    uri = uri or (_app(environment) if environment else os.environ.get("MLFLOW_TRACKING_URI"))
    if uri:
        return MlflowRegistry(uri)
    if not RUNS.is_dir():
        raise RegistryError(
            "no MLflow server is named, and there is no folder runs/ whose store could be used. "
            "Set MLFLOW_TRACKING_URI, or --tracking-uri"
        )
    return MlflowRegistry(f"sqlite:///{RUNS.resolve() / 'mlflow.db'}")


def _app(name: str) -> str:
    from launch.aws.platform_parameters import read_platform_parameters
    from launch.aws.session import AwsSession
    from launch.environment import read_environment

    environment = read_environment(name)
    app = read_platform_parameters(environment, AwsSession(environment).client("ssm")).get(
        "training/mlflow-app"
    )
    if app is None:
        raise RegistryError(
            f"the environment {name} has no MLflow app. Set training.mlflow in "
            f"environments/{name}.yaml and deploy it, or name a server with --tracking-uri"
        )
    return app
