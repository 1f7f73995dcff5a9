"""The base of every stack: its place, its tags, its protection."""

import aws_cdk as cdk
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.settings import Environment


class TemperStack(cdk.Stack):
    """A stack of one environment, tagged for owner, environment and cost centre."""

    def __init__(self, scope: Construct, part: str, *, environment: Environment) -> None:
        self.environment_settings = environment
        super().__init__(
            scope,
            f"{environment.prefix}-{part}",
            description=f"Temper {environment.name}: {part}",
            env=cdk.Environment(account=environment.account, region=environment.region),
            termination_protection=environment.protect,
            tags={
                "Owner": environment.owner,
                "Environment": environment.name,
                "CostCentre": environment.cost_centre,
                "Project": "temper",
            },
        )
        self.names = ResourceNames.of(environment)
        self.removal = (
            cdk.RemovalPolicy.RETAIN if environment.protect else cdk.RemovalPolicy.DESTROY
        )

    @property
    def availability_zones(self) -> list[str]:
        """The zones of the environment file: none is looked up, so synthesis asks no account."""
        return [zone.name for zone in self.environment_settings.network.zones]
