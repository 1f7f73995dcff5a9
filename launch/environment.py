"""Settings of `environments/<name>.yaml` that launching needs.

The platform validates that file in full; only the keys that locate a deployment, and the policy by
which it refuses images, are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from launch.errors import InvalidOptionError, LaunchError
from validation.strict_yaml import load_yaml

FOLDER = Path("environments")
_SECTIONS = ("images", "network", "security", "hyperpod")


@dataclass(frozen=True)
class LaunchEnvironment:
    """Location and owner of one deployment of the platform.

    Attributes:
        name: Name of the environment, the file's name without its suffix.
        prefix: Prefix of the deployment's resources and parameters.
        region: AWS Region of the deployment.
        account: AWS account of the deployment; None to accept any.
        owner: Value of the `Owner` tag.
        cost_centre: Value of the `CostCentre` tag.
        refuse_findings_from: Lowest severity of a scan finding for which an image is refused.
        network: Section `network`, as it is in the file.
        orchestrator: Orchestrator of the HyperPod cluster, `slurm` or `eks`; empty without one.
        tags: More tags of every job.
        kms_key_arns: KMS keys that exist, by domain.
        sections: The whole file.
    """

    name: str
    prefix: str
    region: str
    account: str | None = None
    owner: str = ""
    cost_centre: str = ""
    refuse_findings_from: str = "CRITICAL"
    network: Mapping[str, Any] = field(default_factory=dict)
    orchestrator: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    kms_key_arns: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, Any] = field(default_factory=dict)


def require_environment(environment: LaunchEnvironment | None, target: str) -> LaunchEnvironment:
    """Return the environment of a target that needs one.

    Args:
        environment: The environment; None if none was named.
        target: Name of the target.

    Raises:
        LaunchError: None was named.
    """
    if environment is None:
        raise LaunchError(f"--target {target} needs an environment: --env dev")
    return environment


def read_environment(name: str, folder: Path = FOLDER) -> LaunchEnvironment:
    """Return the environment `name`.

    Raises:
        InvalidOptionError: The file does not exist.
        LaunchError: It cannot be read, or lacks the location of the deployment.
    """
    path = folder / f"{name}.yaml"
    try:
        content = load_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        available = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "nothing"
        raise InvalidOptionError(
            f"--env {name}: {path} does not exist. {folder} has {available}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LaunchError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    settings = content if isinstance(content, dict) else {}
    missing = [key for key in ("prefix", "region") if not settings.get(key)]
    if missing:
        raise LaunchError(
            f"{path} lacks {' and '.join(missing)}. `make synth ENV={name}` checks it"
        )
    account = settings.get("account")
    images, network, security, hyperpod = (_section(settings, key) for key in _SECTIONS)
    return LaunchEnvironment(
        name=name,
        prefix=str(settings["prefix"]),
        region=str(settings["region"]),
        account=str(account) if account else None,
        owner=str(settings.get("owner", "")),
        cost_centre=str(settings.get("cost_centre", "")),
        refuse_findings_from=str(images.get("refuse_findings_from", "CRITICAL")),
        orchestrator=str(hyperpod.get("orchestrator", "slurm")) if hyperpod.get("enabled") else "",
        network=network,
        tags=_section(settings, "tags"),
        kms_key_arns=_section(security, "kms_key_arns"),
        sections=settings,
    )


def _section(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a section of the file; anything else is left for `make synth` to refuse."""
    section = settings.get(key)
    return section if isinstance(section, dict) else {}
