"""HyperPod task governance: priority classes and compute quotas of teams."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.aws_data.tables import region_has
from stacks.settings.hyperpod import TaskGovernance

SCHEDULER = "AWS::SageMaker::ClusterSchedulerConfig"
QUOTA = "AWS::SageMaker::ComputeQuota"


class ComputeQuotas(Construct):
    """Scheduler configuration and team quotas, if the Region supports these resource types.

    Attributes:
        missing: Resource types that CloudFormation lacks in the Region; the stack warns about each.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: TaskGovernance,
        cluster_arn: str,
        region: str,
        prefix: str,
    ) -> None:
        super().__init__(scope, id)
        self.missing = [kind for kind in (SCHEDULER, QUOTA) if not region_has(region, kind)]
        if SCHEDULER not in self.missing:
            sagemaker.CfnClusterSchedulerConfig(
                self,
                "Scheduler",
                name=f"{prefix}-scheduler",
                cluster_arn=cluster_arn,
                scheduler_config=sagemaker.CfnClusterSchedulerConfig.SchedulerConfigProperty(
                    fair_share="Enabled",
                    priority_classes=[
                        sagemaker.CfnClusterSchedulerConfig.PriorityClassProperty(
                            name=name, weight=weight
                        )
                        for name, weight in settings.priorities.items()
                    ],
                ),
            )
        if QUOTA in self.missing:
            return
        for team in settings.teams:
            # aws-cdk-lib has no class for this resource type yet.
            cdk.CfnResource(
                self,
                f"Team{team.name.title()}",
                type=QUOTA,
                properties={
                    "Name": f"{prefix}-{team.name}",
                    "ClusterArn": cluster_arn,
                    "ComputeQuotaTarget": {
                        "TeamName": team.name,
                        "FairShareWeight": team.weight,
                    },
                    "ComputeQuotaConfig": {
                        "ComputeQuotaResources": [
                            {"InstanceType": team.instance, "Count": team.count}
                        ],
                        "ResourceSharingConfig": {
                            "Strategy": "LendAndBorrow",
                            "BorrowLimit": team.borrow_limit,
                        },
                        "PreemptTeamTasks": "LowerPriority",
                    },
                },
            )
