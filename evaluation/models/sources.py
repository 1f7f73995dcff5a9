"""Models that a user names: endpoints, and models of this machine or the Hub.

Nothing here imports torch: what is wrong is said before anything heavy is loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from evaluation.config.endpoints import EndpointModelSection, read_endpoint, unsupported_tasks
from evaluation.config.suite import Suite
from training.config.input_paths import require_model
from training.errors import JobError


@dataclass(frozen=True)
class ModelSource:
    """A model that is evaluated, as the user named it.

    Attributes:
        name: The run, folder, Hub id or endpoint, as written.
        endpoint: Section of the endpoint; None of any other model.
    """

    name: str
    endpoint: EndpointModelSection | None = None

    @property
    def model_name(self) -> str:
        """Name by which the family of the model is known."""
        return self.name if self.endpoint is None else self.endpoint.model

    @property
    def identity(self) -> str:
        """Text that is the same each time the same model is named."""
        if self.endpoint is None:
            return self.name
        return json.dumps(self.endpoint.model_dump(mode="json"), sort_keys=True)


def find_source(name: str, argument: str, suite: Suite) -> ModelSource:
    """Return the model that a user names, which a suite can be evaluated on.

    Args:
        name: Run, folder, Hub id, YAML file of an endpoint, or its short form.
        argument: Name of the argument, for messages.
        suite: The suite.

    Raises:
        JobError: The endpoint cannot be used, or a task cannot be asked of it; lists every problem.
        ModelError: There is no such model.
    """
    section = read_endpoint(name)
    if section is None:
        require_model(name, argument)
        return ModelSource(name)
    if problems := list(unsupported_tasks(section, suite)):
        raise JobError(f"{name}: the suite {suite.suite}", problems)
    return ModelSource(name, section)


def stable_folder(
    suite: str, model: ModelSource, against: ModelSource | None, *inputs: Path
) -> Path:
    """Return the folder of an evaluation with an endpoint: the same each time, to resume it.

    Args:
        suite: Name of the suite.
        model: The evaluated model.
        against: The model that it is compared with.
        inputs: Files that are not part of a suite.
    """
    identities = [model.identity, None if against is None else against.identity, *map(str, inputs)]
    digest = hashlib.sha256(json.dumps(identities).encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model.model_name).name).strip("-.")
    return Path("evaluations") / suite / f"{name}-{digest}"
