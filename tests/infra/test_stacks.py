"""Tests of the important properties of each stack, read from the templates."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import yaml

from catalog.run_metrics import metric_namespace
from launch.aws.platform_parameters import PARAMETERS
from launch.eks.cluster_objects import ENGINEERS, SERVICE_ACCOUNT
from tests.infra.conftest import TESTS, Assembly, synthesize

LOG_GROUP = "AWS::Logs::LogGroup"
EIGHT = {
    "security",
    "network",
    "storage",
    "images",
    "training",
    "hyperpod",
    "bedrock",
    "monitoring",
}
OF_SERVING = {"serving", "serving-assistant", "serving-drafts"}


def test_every_stack_is_there_when_all_is_on(everything: Assembly) -> None:
    assert set(everything.templates) == EIGHT | OF_SERVING | {"pipelines"}


def test_synthesis_asks_no_account_even_where_one_is_named(everything: Assembly) -> None:
    manifest = json.loads((everything.outdir / "manifest.json").read_text(encoding="utf-8"))

    assert any(
        "111122223333" in str(it.get("environment")) for it in manifest["artifacts"].values()
    )
    assert not manifest.get("missing")


def test_dev_leaves_out_what_costs_by_the_hour(dev: Assembly) -> None:
    assert set(dev.templates) == EIGHT - {"hyperpod", "bedrock"}
    for kind in (
        "AWS::EC2::NatGateway",
        "AWS::FSx::FileSystem",
        "AWS::SageMaker::Cluster",
    ):
        assert dev.of_type(kind) == []
    endpoints = [e["Properties"]["VpcEndpointType"] for e in dev.of_type("AWS::EC2::VPCEndpoint")]
    assert endpoints == ["Gateway"]


def test_an_isolated_network_has_no_way_out(prod: Assembly) -> None:
    for kind in ("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway"):
        assert prod.of_type(kind) == []
    routes = [r["Properties"].get("DestinationCidrBlock") for r in prod.of_type("AWS::EC2::Route")]
    assert routes == []


def test_training_nodes_talk_both_ways_among_themselves(everything: Assembly) -> None:
    for kind, key in (
        ("AWS::EC2::SecurityGroupIngress", "SourceSecurityGroupId"),
        ("AWS::EC2::SecurityGroupEgress", "DestinationSecurityGroupId"),
    ):
        own = [
            rule["Properties"]
            for rule in everything.of_type(kind)
            if rule["Properties"]["GroupId"] == rule["Properties"].get(key)
        ]
        assert [rule["IpProtocol"] for rule in own] == ["-1"]


def test_every_bucket_is_closed_versioned_and_encrypted(everything: Assembly) -> None:
    buckets = everything.of_type("AWS::S3::Bucket")
    assert len(buckets) == 6
    for bucket in buckets:
        properties = bucket["Properties"]
        assert properties["PublicAccessBlockConfiguration"] == {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        }
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        rule = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
        kind = rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        access_logs = "access-logs" in str(properties["BucketName"])
        assert kind == ("AES256" if access_logs else "aws:kms")
        assert access_logs or "LoggingConfiguration" in properties


def test_every_bucket_refuses_plain_http(everything: Assembly) -> None:
    policies = everything.of_type("AWS::S3::BucketPolicy")
    assert len(policies) == 6
    for policy in policies:
        statements = policy["Properties"]["PolicyDocument"]["Statement"]
        assert any(
            s["Effect"] == "Deny"
            and s.get("Condition", {}).get("Bool") == {"aws:SecureTransport": "false"}
            for s in statements
        )


def test_models_are_locked_where_asked(everything: Assembly, dev: Assembly) -> None:
    locked = [
        b["Properties"]
        for b in everything.of_type("AWS::S3::Bucket")
        if b["Properties"].get("ObjectLockEnabled")
    ]
    assert ["models" in str(b["BucketName"]) for b in locked] == [True]
    rule = locked[0]["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert rule == {"Days": 30, "Mode": "COMPLIANCE"}
    assert not any(b["Properties"].get("ObjectLockEnabled") for b in dev.of_type("AWS::S3::Bucket"))


def test_every_key_rotates(everything: Assembly) -> None:
    keys = everything.of_type("AWS::KMS::Key")
    assert len(keys) == 5
    assert all(key["Properties"]["EnableKeyRotation"] is True for key in keys)


def test_every_log_group_is_encrypted_and_ends(everything: Assembly) -> None:
    groups = everything.of_type("AWS::Logs::LogGroup")
    assert groups
    for group in groups:
        assert "KmsKeyId" in group["Properties"], group
        assert group["Properties"]["RetentionInDays"] > 0


@pytest.mark.parametrize("kind", ["AWS::S3::Bucket", "AWS::KMS::Key", "AWS::ECR::Repository"])
def test_prod_keeps_what_holds_data(prod: Assembly, kind: str) -> None:
    resources = prod.of_type(kind)
    assert resources
    # Except on create: what a failed first deployment left behind would block its retry.
    assert {r["DeletionPolicy"] for r in resources} == {"RetainExceptOnCreate"}
    assert {r["UpdateReplacePolicy"] for r in resources} == {"Retain"}


def test_every_role_carries_the_boundary_where_set(everything: Assembly, dev: Assembly) -> None:
    roles = everything.of_type("AWS::IAM::Role")
    assert len(roles) > 15
    assert all("PermissionsBoundary" in role["Properties"] for role in roles)
    assert not any("PermissionsBoundary" in r["Properties"] for r in dev.of_type("AWS::IAM::Role"))


def test_every_role_waits_for_the_boundary_to_exist(everything: Assembly) -> None:
    security = everything.templates["security"]["Resources"]
    [boundary] = [name for name in security if name.startswith("Boundary")]
    for name, resource in security.items():
        if resource["Type"] == "AWS::IAM::Role":
            assert boundary in resource["DependsOn"], name
    artifacts = json.loads((everything.outdir / "manifest.json").read_text())["artifacts"]
    stacks = {n: a for n, a in artifacts.items() if a["type"] == "aws:cloudformation:stack"}
    assert len(stacks) == 12
    for name, artifact in stacks.items():
        assert name.endswith("-security") or "temper-all-security" in artifact["dependencies"], name


def test_nothing_of_a_failed_first_deployment_blocks_the_retry(prod: Assembly) -> None:
    resources = [r for t in prod.templates.values() for r in t["Resources"].values()]
    assert {r.get("DeletionPolicy") for r in resources} == {None, "Delete", "RetainExceptOnCreate"}


def test_the_qualifier_is_that_of_the_bootstrap(tmp_path: Path) -> None:
    content = yaml.safe_load((TESTS / "everything.yaml").read_text(encoding="utf-8"))
    content |= {"name": "custom", "cdk_qualifier": "temper1"}
    (tmp_path / "custom.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assembly = synthesize(tmp_path, "custom", tmp_path / "out")
    security = json.dumps(assembly.templates["security"])
    for role in ("cfn-exec-role", "deploy-role", "file-publishing-role", "lookup-role"):
        assert f"cdk-temper1-{role}-" in security, role
    written = "".join(file.read_text(encoding="utf-8") for file in assembly.outdir.glob("*.json"))
    assert "cdk-temper1-deploy-role" in written
    assert "hnb659fds" not in written


def test_an_account_of_an_organization_gets_no_anomaly_monitor(
    prod: Assembly, everything: Assembly, eks: Assembly
) -> None:
    assert prod.of_type("AWS::Budgets::Budget")
    assert not prod.of_type("AWS::CE::AnomalyMonitor")
    assert not prod.of_type("AWS::CE::AnomalySubscription")
    [by_tag] = everything.of_type("AWS::CE::AnomalyMonitor")
    assert by_tag["Properties"]["MonitorType"] == "CUSTOM"
    [by_service] = eks.of_type("AWS::CE::AnomalyMonitor")
    assert by_service["Properties"]["MonitorType"] == "DIMENSIONAL"
    assert by_service["Properties"]["MonitorDimension"] == "SERVICE"


def test_repositories_are_immutable_scanned_and_encrypted(dev: Assembly) -> None:
    repositories = [r["Properties"] for r in dev.of_type("AWS::ECR::Repository")]
    kinds = ("gpu", "neuron", "prepare")
    assert [r["RepositoryName"] for r in repositories] == [f"temper-dev/{kind}" for kind in kinds]
    for repository in repositories:
        assert repository["ImageTagMutability"] == "IMMUTABLE"
        assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
        assert repository["EncryptionConfiguration"]["EncryptionType"] == "KMS"


def test_processing_jobs_have_a_role_and_images_if_the_environment_prepares_data(
    everything: Assembly, eks: Assembly
) -> None:
    for assembly, prepares in ((everything, True), (eks, False)):
        parameters = [p["Properties"]["Name"] for p in assembly.of_type("AWS::SSM::Parameter")]
        for name in ("roles/processing", "images/prepare/repository"):
            assert any(each.endswith(f"/{name}") for each in parameters) == prepares, name
        roles = [
            str(r["Properties"].get("Description")) for r in assembly.of_type("AWS::IAM::Role")
        ]
        assert any("processing job" in text for text in roles) == prepares


def test_the_cluster_is_as_the_environment_says(everything: Assembly) -> None:
    [cluster] = everything.of_type("AWS::SageMaker::Cluster")
    properties = cluster["Properties"]
    groups: dict[str, Any] = {g["InstanceGroupName"]: g for g in properties["InstanceGroups"]}
    assert properties["NodeRecovery"] == "Automatic"
    slurm = properties["Orchestrator"]["Slurm"]
    # AWS refuses any strategy together with continuous provisioning.
    assert properties["NodeProvisioningMode"] == "Continuous"
    assert "SlurmConfigStrategy" not in slurm
    assert (slurm["AccountingDatabase"]["Name"], slurm["AccountingDatabase"]["Port"]) == (
        "slurm_acct_db",
        3307,
    )
    assert groups["controller"]["SlurmConfig"] == {"NodeType": "Controller"}
    assert groups["plan"]["TrainingPlanArn"].endswith("training-plan/winter")
    assert len(groups["plan"]["OverrideVpcConfig"]["Subnets"]) == 1
    assert groups["plan"]["OnStartDeepHealthChecks"] == ["InstanceStress", "InstanceConnectivity"]
    assert groups["cheap"]["CapacityRequirements"] == {"Spot": {}}
    # Slurm is configured by HyperPod itself; a script of OnCreate would have to do it.
    assert all("OnCreate" not in group["LifeCycleConfig"] for group in groups.values())
    mounts = [c for c in groups["plan"]["InstanceStorageConfigs"] if "FsxLustreConfig" in c]
    assert [m["FsxLustreConfig"]["MountPath"] for m in mounts] == ["/fsx"]


@pytest.mark.parametrize("name", ["everything", "eks"])
def test_the_root_volumes_of_nodes_are_under_the_data_key(
    assembly_of: Callable[[str], Assembly], name: str
) -> None:
    [cluster] = assembly_of(name).of_type("AWS::SageMaker::Cluster")
    for group in cluster["Properties"]["InstanceGroups"]:
        configs = [
            config["EbsVolumeConfig"]
            for config in group["InstanceStorageConfigs"]
            if "EbsVolumeConfig" in config
        ]
        [root] = [each for each in configs if each.get("RootVolume")]
        [other] = [each for each in configs if not each.get("RootVolume")]
        assert root["VolumeKmsKeyId"] == other["VolumeKmsKeyId"]
        # The service sets the size of a root volume, and refuses one of the caller.
        assert "VolumeSizeInGB" not in root


def test_uploads_of_the_launcher_expire(everything: Assembly) -> None:
    rules = [
        rule
        for bucket in everything.of_type("AWS::S3::Bucket")
        for rule in bucket["Properties"].get("LifecycleConfiguration", {}).get("Rules", [])
        if rule.get("Prefix") == "uploads/"
    ]
    assert [rule["ExpirationInDays"] for rule in rules] == [180]


def test_slurm_keeps_its_accounts_in_a_database_only_its_nodes_reach(everything: Assembly) -> None:
    [database] = everything.of_type("AWS::RDS::DBInstance")
    properties = database["Properties"]
    assert database["DeletionPolicy"] == "Snapshot"
    for switch in ("StorageEncrypted", "MultiAZ", "DeletionProtection", "ManageMasterUserPassword"):
        assert properties[switch] is True
    assert properties["PubliclyAccessible"] is False
    assert "MasterUserPassword" not in properties
    assert properties["DBInstanceClass"] == "db.t4g.medium"
    [group] = properties["VPCSecurityGroups"]
    ways_in = [
        rule["Properties"]
        for rule in everything.of_type("AWS::EC2::SecurityGroupIngress")
        if rule["Properties"]["GroupId"] == group
    ]
    [way] = ways_in
    assert (way["FromPort"], way["ToPort"], way["IpProtocol"]) == (3307, 3307, "tcp")
    assert "SourceSecurityGroupId" in way
    assert "CidrIp" not in way


def test_an_eks_cluster_of_ours_answers_inside_and_to_named_ranges(eks: Assembly) -> None:
    [cluster] = eks.of_type("AWS::EKS::Cluster")
    network = cluster["Properties"]["ResourcesVpcConfig"]
    assert network["EndpointPrivateAccess"] is True
    assert network["EndpointPublicAccess"] is True
    assert network["PublicAccessCidrs"] == ["203.0.113.0/24"]
    access = cluster["Properties"]["AccessConfig"]
    assert access["AuthenticationMode"] == "API"
    assert access["BootstrapClusterCreatorAdminPermissions"] is False
    logs = cluster["Properties"]["Logging"]["ClusterLogging"]["EnabledTypes"]
    assert len(logs) == 5
    [pod] = eks.of_type("AWS::SageMaker::Cluster")
    assert "Eks" in pod["Properties"]["Orchestrator"]
    addons = {addon["Properties"]["AddonName"] for addon in eks.of_type("AWS::EKS::Addon")}
    assert {"vpc-cni", "coredns", "aws-fsx-csi-driver"} <= addons


def test_engineers_are_a_group_of_kubernetes(eks: Assembly) -> None:
    """None of EKS's access policies covers their jobs; the launcher's set-up binds the group."""
    entries = [entry["Properties"] for entry in eks.of_type("AWS::EKS::AccessEntry")]
    [administrator, engineer] = sorted(entries, key=lambda entry: "KubernetesGroups" in entry)
    [policy] = administrator["AccessPolicies"]
    assert policy["PolicyArn"].endswith("/AmazonEKSClusterAdminPolicy")
    assert policy["AccessScope"] == {"Type": "cluster"}
    assert engineer["KubernetesGroups"] == [ENGINEERS]
    assert "AccessPolicies" not in engineer


def test_namespaces_of_jobs_are_published(eks: Assembly) -> None:
    parameters = {
        p["Properties"]["Name"].removeprefix("/temper-eks/"): p["Properties"]["Value"]
        for p in eks.of_type("AWS::SSM::Parameter")
    }
    assert parameters["hyperpod/namespaces"] == "hyperpod-ns-research"
    assert parameters["hyperpod/teams"] == "research"
    assert parameters["hyperpod/autoscaled-groups"] == "experiments:ml.g6.xlarge:4:30"


@pytest.mark.parametrize("name", ["everything", "eks"])
def test_the_logs_of_a_cluster_are_encrypted_and_end(
    assembly_of: Callable[[str], Assembly], name: str
) -> None:
    """Resources that refer to the group wait for it: HyperPod creates it at a time of its own."""
    assembly = assembly_of(name)
    [log] = [r["Properties"] for r in assembly.of_type("Custom::ClusterLogGroup")]
    assert log["Days"] == 90
    assert log["KmsKeyArn"]
    cluster_id = {"Fn::Select": [1, {"Fn::Split": ["/", ANY]}]}
    prefix, found_id = log["LogGroupName"]["Fn::Join"][1]
    assert prefix == f"/aws/sagemaker/Clusters/temper-{'all' if name != 'eks' else 'eks'}-cluster/"
    assert found_id == cluster_id
    for subscription in assembly.of_type("AWS::Logs::SubscriptionFilter"):
        if "HealthMonitoringAgent" in str(subscription):
            assert any("Log" in each for each in subscription["DependsOn"])


def test_jobs_on_eks_have_credentials_that_publish_their_metrics(eks: Assembly) -> None:
    """Each namespace of jobs is associated, for the service account that the launcher creates."""
    [association] = [a["Properties"] for a in eks.of_type("AWS::EKS::PodIdentityAssociation")]
    assert association["Namespace"] == "hyperpod-ns-research"
    assert association["ServiceAccount"] == SERVICE_ACCOUNT
    [template] = [t for t in eks.templates.values() if "PodIdentityAssociation" in str(t)]
    role_id = association["RoleArn"]["Fn::GetAtt"][0]
    [trust] = template["Resources"][role_id]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert set(trust["Action"]) == {"sts:AssumeRole", "sts:TagSession"}
    tags = trust["Condition"]["StringEquals"]
    assert tags["aws:RequestTag/kubernetes-namespace"] == ["hyperpod-ns-research"]
    assert tags["aws:RequestTag/kubernetes-service-account"] == SERVICE_ACCOUNT
    assert tags["aws:RequestTag/eks-cluster-arn"]
    [policy] = [
        r["Properties"]["PolicyDocument"]["Statement"]
        for r in template["Resources"].values()
        if r["Type"] == "AWS::IAM::ManagedPolicy"
        and {"Ref": role_id} in r["Properties"].get("Roles", [])
    ]
    [metrics] = [s for s in policy if s["Action"] == "cloudwatch:PutMetricData"]
    assert metrics["Condition"]["StringEquals"]["cloudwatch:namespace"] == [
        metric_namespace("temper-eks")
    ]
    assert {s["Action"] for s in policy} <= {"cloudwatch:PutMetricData", "bedrock:InvokeModel"}


def test_logs_of_an_eks_cluster_are_encrypted_and_end(eks: Assembly) -> None:
    """EKS would create the group itself, with neither; so it exists before the cluster."""
    [template] = [t for t in eks.templates.values() if "Eks" in str(t) and "AccessEntry" in str(t)]
    resources = template["Resources"]
    [(name, group)] = [
        (name, resource)
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Logs::LogGroup"
        and resource["Properties"].get("LogGroupName") == "/aws/eks/temper-eks-eks/cluster"
    ]
    assert group["Properties"]["RetentionInDays"] == 90
    assert "KmsKeyId" in group["Properties"]
    [cluster] = [r for r in resources.values() if r["Type"] == "AWS::EKS::Cluster"]
    assert name in cluster["DependsOn"]


def test_idle_groups_of_an_eks_cluster_scale_down(eks: Assembly) -> None:
    [cluster] = eks.of_type("AWS::SageMaker::Cluster")
    properties = cluster["Properties"]
    assert properties["AutoScaling"] == {"Mode": "Enable", "AutoScalerType": "Karpenter"}
    role = properties["ClusterRole"]["Fn::GetAtt"][0]
    # HyperPod uses the role at once, so its permissions come first.
    policies = [
        name
        for name, resource in eks.templates["hyperpod"]["Resources"].items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
        and {"Ref": role} in resource["Properties"]["Roles"]
    ]
    assert len(policies) == 1 and set(policies) <= set(cluster["DependsOn"])
    assert properties["NodeRecovery"] == "Automatic"
    [fixed, scaled] = properties["InstanceGroups"]
    assert scaled["InstanceCount"] == 0
    assert "OnStartDeepHealthChecks" in fixed and "OnStartDeepHealthChecks" not in scaled
    assert len(scaled["OverrideVpcConfig"]["Subnets"]) == 1
    trusted = [
        statement["Principal"]["Service"]
        for role in eks.of_type("AWS::IAM::Role")
        for statement in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        if "Service" in statement["Principal"]
    ]
    assert "hyperpod.sagemaker.amazonaws.com" in trusted


def test_nodes_wait_until_the_chart_is_there(tmp_path: Path) -> None:
    content = yaml.safe_load((TESTS / "eks.yaml").read_text())
    content["hyperpod"]["eks"] = {"administrators": content["hyperpod"]["eks"]["administrators"]}
    content["hyperpod"]["eks"]["own_log_group"] = False
    del content["hyperpod"]["task_governance"]
    (tmp_path / "eks.yaml").write_text(yaml.safe_dump(content))
    early = synthesize(tmp_path, "eks", tmp_path / "out")
    assert early.of_type("AWS::SageMaker::Cluster") == []
    assert len(early.of_type("AWS::EKS::Cluster")) == 1
    # An add-on that requires a node would keep the deployment waiting.
    addons = {addon["Properties"]["AddonName"] for addon in early.of_type("AWS::EKS::Addon")}
    assert addons == {"vpc-cni", "kube-proxy", "eks-pod-identity-agent"}
    # Nothing opens the API server unasked, and a log group that exists can be left alone.
    [cluster] = early.of_type("AWS::EKS::Cluster")
    network = cluster["Properties"]["ResourcesVpcConfig"]
    assert network["EndpointPublicAccess"] is False and "PublicAccessCidrs" not in network
    groups = [group["Properties"].get("LogGroupName") for group in early.of_type(LOG_GROUP)]
    assert "/aws/eks/temper-eks-eks/cluster" not in groups
    # The namespace of jobs is known before the first node, for the set-up.
    parameters = {
        p["Properties"]["Name"].removeprefix("/temper-eks/"): p["Properties"]["Value"]
        for p in early.of_type("AWS::SSM::Parameter")
    }
    assert parameters["hyperpod/namespaces"] == "hyperpod-ns-temper"
    assert "hyperpod/teams" not in parameters


def test_every_alarm_pages_by_itself_and_areas_give_the_all_clear(everything: Assembly) -> None:
    """A composite alarm that is in ALARM would hide each later fault of its area."""
    direct = {"monitor-silent", "handler-errors", "undelivered-messages"}
    # Those of a deployment name it, and page without a function; the last starts a copy instead.
    direct |= {
        f"assistant-{kind}" for kind in ("errors", "latency", "drift", "unwatched", "quality")
    }
    direct |= {f"drafts-{kind}" for kind in ("errors", "latency", "capacity", "wake")}
    replayed = ("assistant", "drafts", "drafts-nova", "lite", "support")
    direct |= {f"{deployment}-golden" for deployment in replayed}
    for resource in everything.of_type("AWS::CloudWatch::Alarm"):
        alarm = resource["Properties"]
        name = alarm["AlarmName"].removeprefix("temper-all-")
        [action] = alarm["AlarmActions"]
        # An alarm on a broken function does not depend on any function.
        assert ("Pager" not in str(action)) == (name in direct), name
    for resource in everything.of_type("AWS::CloudWatch::CompositeAlarm"):
        composite = resource["Properties"]
        assert "AlarmActions" not in composite
        [action] = composite["OKActions"]
        assert "Pages" in str(action)
    [subscription] = [
        s["Properties"]
        for s in everything.of_type("AWS::SNS::Subscription")
        if s["Properties"]["Protocol"] == "lambda"
    ]
    assert "Pager" in str(subscription["TopicArn"])
    assert "RedrivePolicy" in subscription


def test_incident_tools_and_slack_are_paged_and_the_url_stays_out_of_the_template(
    everything: Assembly,
) -> None:
    subscriptions = [s["Properties"] for s in everything.of_type("AWS::SNS::Subscription")]
    [https] = [s for s in subscriptions if s["Protocol"] == "https"]
    assert "Pages" in str(https["TopicArn"])
    assert https["Endpoint"].startswith("{{resolve:secretsmanager:arn:aws:secretsmanager:")
    [channel] = everything.of_type("AWS::Chatbot::SlackChannelConfiguration")
    properties = channel["Properties"]
    assert "Pages" in str(properties["SnsTopicArns"])
    # Without a guardrail, AWS applies AdministratorAccess.
    [guardrail] = properties["GuardrailPolicies"]
    policy = everything.templates["monitoring"]["Resources"][guardrail["Ref"]]
    actions = policy["Properties"]["PolicyDocument"]["Statement"][0]["Action"]
    assert all(
        a.startswith(("cloudwatch:Get", "cloudwatch:List", "cloudwatch:Describe")) for a in actions
    )
    # Every message is encrypted; each service that publishes to the topic may use its key.
    [key] = [
        k["Properties"]["KeyPolicy"]
        for name, k in everything.templates["security"]["Resources"].items()
        if k["Type"] == "AWS::KMS::Key" and "cloudwatch.amazonaws.com" in str(k)
    ]
    for service in ("cloudwatch", "budgets", "costalerts"):
        assert f"{service}.amazonaws.com" in str(key)


def test_the_deployment_says_who_must_confirm(dev: Assembly) -> None:
    output = dev.templates["monitoring"]["Outputs"]["ConfirmSubscriptions"]["Value"]
    assert output.startswith("Pending confirmation: platform-team@example.com.")


def test_every_stack_passes_tags_on_to_its_resources(everything: Assembly) -> None:
    assert len(everything.tags) == 12
    for stack, tags in everything.tags.items():
        common = {key: value for key, value in tags.items() if not key.startswith("temper:")}
        assert common == {
            "Owner": "platform-team@example.com",
            "Environment": "everything",
            "CostCentre": "tests",
            "Project": "temper",
        }
        assert (len(tags) > len(common)) == ("-serving-" in stack), stack


def test_the_budget_tells_of_actual_and_forecast_cost_and_stops_at_the_last_step(
    everything: Assembly,
) -> None:
    steps: dict[str, list[int]] = {}
    budgets = everything.templates["monitoring"]["Resources"].values()
    for budget in [each for each in budgets if each["Type"] == "AWS::Budgets::Budget"]:
        for each in budget["Properties"]["NotificationsWithSubscribers"]:
            notification = each["Notification"]
            steps.setdefault(notification["NotificationType"], []).append(notification["Threshold"])
    assert steps == {"ACTUAL": [50, 80, 100, 120], "FORECASTED": [100]}
    [action] = everything.of_type("AWS::Budgets::BudgetsAction")
    assert action["Properties"]["ActionThreshold"] == {"Type": "PERCENTAGE", "Value": 120}
    assert action["Properties"]["ApprovalModel"] == "AUTOMATIC"


def test_what_launch_reads_is_published(everything: Assembly, eks: Assembly, dev: Assembly) -> None:
    def published(assembly: Assembly) -> set[str]:
        names = [p["Properties"]["Name"] for p in assembly.of_type("AWS::SSM::Parameter")]
        return {name.split("/", 2)[2] for name in names}

    assert set(PARAMETERS) - published(everything) - published(eks) == set()
    assert {name for name, needed in PARAMETERS.items() if needed} <= published(dev)
