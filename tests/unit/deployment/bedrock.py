"""Environment of deployments in an account with the emulated Bedrock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployment.account import DeploymentAccount
from deployment.model import DeployedModel
from deployment.polling import Polling
from deployment.spec import read_spec
from deployment.targets.base import DeploymentRequest
from emulator.bedrock_account import BedrockTimings
from emulator.clock import Clock
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession
from tests.unit.deployment.interruption import killed_after
from tests.unit.emulator.bedrock import ADDRESS, EmulatedBedrock, emulated_bedrock
from tests.unit.launch.fake_accounts import DEV, VALUES

_CALLER = "arn:aws:sts::123456789012:assumed-role/temper-dev-deployer/anna"


class BedrockSession(AwsSession):
    """Session whose clients are those of the emulated account."""

    def __init__(self, here: EmulatedBedrock):
        super().__init__(DEV)
        self._here = here

    def client(self, service: str) -> Any:
        own = {"bedrock": self._here.bedrock, "bedrock-runtime": self._here.runtime}
        return own.get(service) or self._here.account(service)


@dataclass
class BedrockDeployments:
    """Environment whose versions are deployed to Bedrock.

    Attributes:
        here: The emulated account.
        account: Account of deployments.
        clock: Clock of the emulator.
    """

    here: EmulatedBedrock
    account: DeploymentAccount
    clock: Any

    def model(self, version: str = "1.0.0", **more: Any) -> DeployedModel:
        """Return a version, whose files were uploaded to `ADDRESS`."""
        values = {
            "name": "support",
            "version": version,
            "form": "transformers-4",
            "folder": ADDRESS,
            "package": "",
            "tree": "0" * 64,
            "size_bytes": 1,
            "files": self._files(),
        }
        return DeployedModel(**{**values, **more})

    def _files(self) -> tuple[str, ...]:
        bucket, _, prefix = ADDRESS.removeprefix("s3://").partition("/")
        answer = self.here.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return tuple(one["Key"].removeprefix(prefix) for one in answer.get("Contents", ()))

    def request(self, to: str, model: DeployedModel, **values: Any) -> DeploymentRequest:
        """Return a request to deploy a version."""
        given = {"to": to, "name": "support", "end": {"forever": "a test"}, **values}
        return DeploymentRequest(read_spec(None, {**given, "model": model.id}), model, "anna")

    def calls(self, operation: str) -> int:
        """Return how often an operation of Bedrock was called."""
        return self.here.service.control.calls.count(operation)

    def killed_after(self, pauses: int) -> DeploymentAccount:
        """Return the account of a command that is killed in a pause while it waits."""
        polling = killed_after(pauses, self.clock.advance, self.clock.now)
        return replace(self.account, polling=polling)


@contextmanager
def bedrock_deployments(
    clock: Clock, sleep: Callable[[float], None], home: Path, timings: BedrockTimings
) -> Iterator[BedrockDeployments]:
    """Run an emulated account while the context lasts.

    Args:
        clock: Clock of the emulator.
        sleep: Lets time pass.
        home: Folder of the emulator.
        timings: Durations of its operations.
    """
    with emulated_bedrock(clock, home, timings) as here:
        values = {**VALUES, "roles/bedrock-import": here.role}
        polling = Polling(
            longest_s=1.0 if sleep is time.sleep else 60.0, sleep=sleep, now=clock.now
        )
        platform = PlatformParameters(DEV, values)
        account = DeploymentAccount(BedrockSession(here), platform, _CALLER, polling)
        yield BedrockDeployments(here, account, clock)
