"""A HyperPod cluster with continuous provisioning must not name a Slurm configuration strategy.

CreateCluster refuses the combination, although the schema of the resource type allows it:
docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-scaling-slurm.html
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield clusters that set both."""
    for logical_id, cluster in template.of_type("AWS::SageMaker::Cluster"):
        slurm = cluster.get("Orchestrator", {}).get("Slurm", {})
        strategy = slurm.get("SlurmConfigStrategy")
        if strategy and cluster.get("NodeProvisioningMode") == "Continuous":
            yield RuleViolation(
                logical_id, f"SlurmConfigStrategy: {strategy} with NodeProvisioningMode: Continuous"
            )
