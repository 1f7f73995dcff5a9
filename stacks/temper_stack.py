"""Base class of every stack: environment, tags and termination protection."""

import aws_cdk as cdk
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.settings import Environment


class TemperStack(cdk.Stack):
    """Stack of one environment, tagged with owner, environment and cost centre.

    Args:
        scope: The application.
        part: Name of the stack without the prefix.
        environment: Settings.
        protect: Enable termination protection; as the settings say if None.
    """

    def __init__(
        self, scope: Construct, part: str, *, environment: Environment, protect: bool | None = None
    ) -> None:
        # Set first: the constructor of the base class reads `availability_zones`.
        self.environment_settings = environment
        super().__init__(
            scope,
            f"{environment.prefix}-{part}",
            description=f"Temper {environment.name}: {part}",
            env=cdk.Environment(account=environment.account, region=environment.region),
            termination_protection=environment.protect if protect is None else protect,
            synthesizer=cdk.DefaultStackSynthesizer(qualifier=environment.cdk_qualifier),
            tags={
                **environment.tags,
                "Owner": environment.owner,
                "Environment": environment.name,
                "CostCentre": environment.cost_centre,
                "Project": "temper",
            },
        )
        self.names = ResourceNames.from_environment(environment)
        # Except on create: resources that a failed first deployment leaves behind, under names that
        # are fixed, would block every retry.
        self.removal = (
            cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
            if environment.protect
            else cdk.RemovalPolicy.DESTROY
        )

    @property
    def availability_zones(self) -> list[str]:
        """Zones of the environment file.

        CDK would look the zones up in the account; with this override synthesis needs no
        credentials.
        """
        return [zone.name for zone in self.environment_settings.network.zones]
