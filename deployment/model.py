"""Registered version that is deployed: approval, files and what they say about the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError
from launch.aws.s3 import S3Store, S3Uri
from registry.remote.base import RemoteVersion
from registry.remote.package_metadata import APPROVED
from registry.remote.sagemaker import SageMakerRegistry
from registry.remote.version_files import folder_of
from training.export.managed_model import MANAGED_MODEL

_PREFERRED = ("safetensors", "safetensors-merged", "gguf", "adapter")
_READ = (
    "config.json",
    "adapter_config.json",
    "tokenizer_config.json",
    "base.json",
    MANAGED_MODEL,
)
_TEMPLATES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True)
class DeployedModel:
    """One form of a registered version.

    Attributes:
        name: Name of the model.
        version: Its version.
        form: The form that is served.
        folder: Address of its folder in S3, which ends in `/`.
        package: ARN of the model package.
        tree: Digest of the files of the form.
        size_bytes: Size of the files.
        files: Paths of the files.
        documents: Content of its small JSON files, by name.
        forms: All forms of the version.
        metadata: Metadata of the model package.
    """

    name: str
    version: str
    form: str
    folder: str
    package: str
    tree: str
    size_bytes: int
    files: tuple[str, ...] = ()
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forms: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name and version, `NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def is_adapter(self) -> bool:
        """True if the form is an adapter without its base."""
        return "adapter_config.json" in self.files

    @property
    def managed(self) -> Mapping[str, Any]:
        """Names of the model at a provider that keeps its weights; empty for other models."""
        return self.documents.get(MANAGED_MODEL, {})

    @property
    def adapter_rank(self) -> int | None:
        """Largest rank of the adapter's layers; None for a full model or another adapter."""
        config = self.documents.get("adapter_config.json", {})
        ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
        numbers = [rank for rank in ranks if isinstance(rank, int)]
        return max(numbers) if numbers else None

    @property
    def base_digest(self) -> str | None:
        """Digest of the weights of the base that the version was trained from."""
        return self.metadata.get("temper-base-digest")

    @property
    def has_chat_template(self) -> bool:
        """True if conversations can be rendered. A GGUF file holds its own, which is not read."""
        if any(file.endswith(".gguf") for file in self.files):
            return True
        tokenizer = self.documents.get("tokenizer_config.json", {})
        return bool(tokenizer.get("chat_template")) or any(f in self.files for f in _TEMPLATES)


def find_model(
    account: DeploymentAccount, model: str, form: str | None = None, *, needs: str | None = None
) -> DeployedModel:
    """Return an approved version, after comparing its files with those that were pushed.

    Args:
        account: Account of the registry.
        model: NAME@VERSION; NAME for the version in production.
        form: Form to serve; the first that a server loads as it is if None.
        needs: Form that the target needs if none is named.

    Raises:
        DeployModelError: It is not registered there or not approved, or lacks the form.
        RegistryError: Its files in S3 are not those that were pushed.
    """
    registry = SageMakerRegistry(
        account.platform, account.client("sagemaker"), account.client("s3")
    )
    version = _approved(registry, model)
    registry.check_files(version)
    chosen = _form(version, form or needs)
    folder = f"s3://{account.platform['buckets/models']}/{folder_of(version.trees[chosen])}"
    store, place = S3Store(account.client("s3")), S3Uri.parse(folder)
    sizes = {uri.key.removeprefix(place.key): size for uri, size in store.list(place)}
    if not sizes:
        raise DeployModelError(f"{version.id} has no files in {folder}. Push it again")
    return DeployedModel(
        name=version.name,
        version=str(version.version),
        form=chosen,
        folder=folder,
        package=version.address,
        tree=version.trees[chosen],
        size_bytes=sum(sizes.values()),
        files=tuple(sorted(sizes)),
        documents={name: _document(store, place, name) for name in _READ if name in sizes},
        forms=tuple(sorted(version.trees)),
        metadata=registry.metadata(version),
    )


def _approved(registry: SageMakerRegistry, model: str) -> RemoteVersion:
    """Return the version that a name means, if it is approved.

    Raises:
        DeployModelError: There is none, or it is not approved.
    """
    name, _, number = model.partition("@")
    versions = registry.versions(name)
    known = ", ".join(f"{one.id} ({one.status})" for one in versions[-8:]) or "none"
    if number:
        found = [one for one in versions if str(one.version) == number]
    else:
        found = [one for one in versions if one.status == APPROVED]
    if not found:
        wanted = model if number else f"an approved version of {name}"
        raise DeployModelError(
            f"{registry.title} does not have {wanted}. It has: {known}. To push a version: "
            f"temper push-model {model if number else name + '@VERSION'} --env "
            f"{registry.environment}"
        )
    version = found[-1]
    if version.status != APPROVED:
        raise DeployModelError(
            f"{version.id} is {version.status} in {registry.title}, and only approved versions are "
            f"deployed. To approve it: temper promote {version.id} production --env "
            f"{registry.environment}"
        )
    return version


def _form(version: RemoteVersion, wanted: str | None) -> str:
    if wanted is not None and wanted not in version.trees:
        raise DeployModelError(
            f"{version.id} has no form {wanted}. It has: {', '.join(sorted(version.trees))}"
        )
    for form in (wanted, *_PREFERRED, *sorted(version.trees)):
        if form in version.trees:
            return str(form)
    raise DeployModelError(f"{version.id} has no form")


def _document(store: S3Store, folder: S3Uri, name: str) -> Mapping[str, Any]:
    """Return a JSON file of a folder; empty if it is not one object."""
    try:
        content = json.loads(store.get_text(folder / name) or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
