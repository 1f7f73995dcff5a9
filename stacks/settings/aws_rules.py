"""Rules of AWS that span several settings, each with the page that states it.

CloudFormation's schemas express none of them: a violation would be found late, by the service that
refuses the resource, or never, if a setting has no effect. All are checked before synthesis.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zoneinfo import available_timezones

from stacks.settings import account_rules, address_rules, pipeline_rules, serving_rules
from stacks.settings import eks_rules as eks
from stacks.settings import hyperpod_rules as hyperpod
from stacks.settings import monitoring_rules as monitoring
from stacks.settings.base import duplicates
from stacks.settings.environment import Environment
from stacks.settings.network_rules import existing_network
from stacks.settings.schedules import schedule_problem
from stacks.settings.tag_rules import tag_problems
from stacks.settings.unused_settings import unused_settings

SAGEMAKER_API = "docs.aws.amazon.com/sagemaker/latest/APIReference"
SAGEMAKER_GUIDE = "docs.aws.amazon.com/sagemaker/latest/dg"
# Step in GiB of the capacity of a file system with EFA, by throughput in MB/s per TiB.
EFA_CAPACITY_STEP = {125: 38400, 250: 19200, 500: 9600, 1000: 4800}


@dataclass(frozen=True)
class AwsRule:
    """Rule with its source.

    Attributes:
        source: Page of AWS that states the rule.
        check: Function that yields a message per violation: key, value and fix.
    """

    source: str
    check: Callable[[Environment], Iterator[str]]


def rule_problems(environment: Environment) -> Iterator[str]:
    """Yield every violation, followed by the source of the rule."""
    for rule in RULES:
        for problem in rule.check(environment):
            yield f"{problem} ({rule.source})"


def _lustre_capacity(environment: Environment) -> Iterator[str]:
    capacity = environment.storage.lustre.capacity_gib
    if capacity != 1200 and capacity % 2400:
        below = capacity // 2400 * 2400 or 1200
        yield (
            f"storage.lustre.capacity_gib: {capacity} is neither 1200 nor a multiple of 2400; "
            f"take {below} or {capacity // 2400 * 2400 + 2400}"
        )


def _lustre_efa(environment: Environment) -> Iterator[str]:
    lustre = environment.storage.lustre
    step = EFA_CAPACITY_STEP[lustre.throughput_mbps_per_tib]
    if lustre.efa and lustre.capacity_gib % step:
        yield (
            f"storage.lustre.efa: with {lustre.throughput_mbps_per_tib} MB/s per TiB the capacity "
            f"must be a multiple of {step} GiB, not {lustre.capacity_gib}; take "
            f"{lustre.capacity_gib // step * step + step}, a higher throughput_mbps_per_tib, or "
            "efa: false"
        )


def _schedule(environment: Environment) -> Iterator[str]:
    problem = schedule_problem(environment.bedrock.undeploy)
    if problem:
        yield f"bedrock.undeploy: {environment.bedrock.undeploy!r}: {problem}"


def _time_zone(environment: Environment) -> Iterator[str]:
    zone = environment.bedrock.undeploy_timezone
    if zone not in available_timezones():
        yield (
            f"bedrock.undeploy_timezone: {zone!r} is not in the IANA time zone database; "
            "write a name like Europe/Berlin"
        )


def _throughput_names(environment: Environment) -> Iterator[str]:
    yield from duplicates("bedrock.throughput", [t.name for t in environment.bedrock.throughput])


def _bedrock_is_on(environment: Environment) -> Iterator[str]:
    bedrock = environment.bedrock
    for key, wanted in (
        ("guardrail", bedrock.guardrail is not None),
        ("invocation_logging", bedrock.invocation_logging),
    ):
        if wanted and not bedrock.enabled:
            yield (
                f"bedrock.{key}: set, but bedrock.enabled is false, so nothing would be created; "
                "enable Bedrock, or remove it"
            )


def _anomaly_threshold(environment: Environment) -> Iterator[str]:
    budget = environment.monitoring.budget
    if budget and budget.anomaly_monitor == "none" and "anomaly_usd" in budget.model_fields_set:
        yield (
            f"monitoring.budget.anomaly_usd: {budget.anomaly_usd} has no effect without an anomaly "
            "monitor; set anomaly_monitor (services, tag, or the ARN of an existing one), or "
            "remove it"
        )


RULES = (
    AwsRule(
        "docs.aws.amazon.com/fsx/latest/APIReference/API_CreateFileSystem.html", _lustre_capacity
    ),
    AwsRule("docs.aws.amazon.com/fsx/latest/LustreGuide/efa-file-systems.html", _lustre_efa),
    AwsRule(
        "docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html", address_rules.vpc_size
    ),
    AwsRule(
        "docs.aws.amazon.com/ram/latest/userguide/working-with-az-ids.html", address_rules.zone_ids
    ),
    AwsRule("docs.aws.amazon.com/vpc/latest/userguide/configure-subnets.html", existing_network),
    AwsRule(f"{SAGEMAKER_GUIDE}/sagemaker-hyperpod-prerequisites.html", hyperpod.isolated_cluster),
    AwsRule(
        f"{SAGEMAKER_GUIDE}/reserve-capacity-with-training-plans.html",
        hyperpod.training_plans,
    ),
    AwsRule(f"{SAGEMAKER_GUIDE}/sagemaker-hyperpod-eks-prerequisites.html", hyperpod.eks_cluster),
    AwsRule(f"{SAGEMAKER_API}/API_ClusterInstanceGroupSpecification.html", hyperpod.group_names),
    AwsRule(f"{SAGEMAKER_API}/API_ClusterSlurmConfig.html", hyperpod.partitions),
    AwsRule(f"{SAGEMAKER_API}/API_ClusterSlurmConfig.html", hyperpod.roles_on_eks),
    AwsRule("docs/platform/hyperpod.md", hyperpod.only_on_slurm),
    AwsRule("docs/platform/hyperpod.md", hyperpod.users),
    AwsRule(f"{SAGEMAKER_GUIDE}/sagemaker-hyperpod-ami-update.html", hyperpod.patching),
    AwsRule(f"{SAGEMAKER_API}/API_ComputeQuotaTarget.html", hyperpod.governance),
    AwsRule(
        f"{SAGEMAKER_GUIDE}/sagemaker-hyperpod-eks-run-jobs-hyperpod-cli.html", eks.job_namespace
    ),
    AwsRule("docs.aws.amazon.com/eks/latest/userguide/cluster-endpoint.html", eks.public_access),
    AwsRule(
        f"{SAGEMAKER_GUIDE}/sagemaker-hyperpod-eks-autoscaling-nodeclass.html",
        eks.autoscaled_groups,
    ),
    AwsRule("docs.aws.amazon.com/eks/latest/userguide/managing-coredns.html", eks.nodes_of_addons),
    AwsRule(f"{SAGEMAKER_API}/API_Tag.html", tag_problems),
    AwsRule("docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html", _schedule),
    AwsRule("docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html", _time_zone),
    AwsRule(
        "docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateProvisionedModelThroughput.html",
        _throughput_names,
    ),
    AwsRule("docs/platform/settings.md", _bedrock_is_on),
    AwsRule("docs/platform/serving.md", serving_rules.deployments),
    AwsRule("docs/platform/serving.md", serving_rules.bedrock_replays),
    AwsRule(
        "docs.aws.amazon.com/cost-management/latest/userguide/getting-started-ad.html",
        _anomaly_threshold,
    ),
    AwsRule("docs.aws.amazon.com/sns/latest/api/API_Subscribe.html", monitoring.recipients),
    AwsRule(
        "docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/"
        "dynamic-references-secretsmanager.html",
        monitoring.page_secrets,
    ),
    AwsRule(
        "docs.aws.amazon.com/chatbot/latest/APIReference/API_SlackChannelConfiguration.html",
        monitoring.slack,
    ),
    AwsRule(
        "docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html",
        account_rules.secret_keys,
    ),
    AwsRule("docs/platform.md", account_rules.partition),
    AwsRule("docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html", account_rules.arns),
    AwsRule(
        "docs.aws.amazon.com/singlesignon/latest/userguide/referencingpermissionsets.html",
        account_rules.permission_sets,
    ),
    AwsRule(
        "docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html",
        account_rules.kms_keys,
    ),
    AwsRule("docs/pipelines.md", pipeline_rules.watched_deployments),
    AwsRule("docs/platform/settings.md", account_rules.repeated),
    AwsRule(f"{SAGEMAKER_API}/API_PutModelPackageGroupPolicy.html", account_rules.registry_readers),
    AwsRule(
        "docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateProvisionedModelThroughput.html",
        account_rules.throughput_models,
    ),
    AwsRule(
        "docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html, "
        "docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html",
        account_rules.prefix,
    ),
    AwsRule("docs/platform/settings.md", unused_settings),
)
