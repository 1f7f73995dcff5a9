"""Which deployment a command speaks to: the three facts of `environments/<name>.yaml` it needs.

The platform checks that file in full; here only what says where its parameters are is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from launch.errors import LaunchError

FOLDER = Path("environments")


@dataclass(frozen=True)
class LaunchEnvironment:
    """One deployment of the platform."""

    name: str
    prefix: str
    region: str
    account: str | None = None
    owner: str = ""
    cost_centre: str = ""


def read_environment(name: str, folder: Path = FOLDER) -> LaunchEnvironment:
    """Return the environment `name`.

    Raises:
        LaunchError: There is no such file, or it does not say where the deployment is.
    """
    path = folder / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "nothing"
        raise LaunchError(f"ENV={name}: there is no {path}. {folder} has {known}") from None
    except (OSError, yaml.YAMLError) as error:
        raise LaunchError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    found = content if isinstance(content, dict) else {}
    missing = [key for key in ("prefix", "region") if not found.get(key)]
    if missing:
        raise LaunchError(
            f"{path} lacks {' and '.join(missing)}. `make synth ENV={name}` checks it"
        )
    account = found.get("account")
    return LaunchEnvironment(
        name=name,
        prefix=str(found["prefix"]),
        region=str(found["region"]),
        account=str(account) if account else None,
        owner=str(found.get("owner", "")),
        cost_centre=str(found.get("cost_centre", "")),
    )
