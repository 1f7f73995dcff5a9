"""Tests of the Temper rules: each finds a planted violation, and nothing in a valid resource."""

from typing import Any

import pytest

from stacks.nag.temper_pack import all_rules, rule_text
from stacks.nag.template import SynthesizedTemplate

ROLE = {"Ref": "Engineer"}
CREATE = {"Effect": "Allow", "Action": "sagemaker:CreateTrainingJob", "Resource": "*"}
ROLLBACK = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}
SELF = {"Fn::GetAtt": ["Nodes", "GroupId"]}


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {"PolicyDocument": {"Statement": list(statements)}, "Roles": [ROLE]},
    }


def _null(key: str) -> dict[str, Any]:
    return {
        "Effect": "Deny",
        "Action": ["sagemaker:CreateTrainingJob"],
        "Resource": "*",
        "Condition": {"Null": {key: "true"}},
    }


def _pass(resource: Any, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    return _policy(
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": resource,
            **({"Condition": condition} if condition else {}),
        }
    )


def _of(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def _trust(**condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}}
    return _of(
        "AWS::IAM::Role", AssumeRolePolicyDocument={"Statement": [{**statement, **condition}]}
    )


def _bucket_grant(**condition: Any) -> dict[str, Any]:
    writer = {"Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}}
    statement = {**writer, "Action": "s3:PutObject", "Resource": "*", **condition}
    return _of("AWS::S3::BucketPolicy", PolicyDocument={"Statement": [statement]})


def _alarm(**properties: Any) -> dict[str, Any]:
    return _of("AWS::CloudWatch::Alarm", **properties)


def _composite(rule: Any) -> dict[str, Any]:
    return _of("AWS::CloudWatch::CompositeAlarm", AlarmRule=rule, AlarmActions=["arn:topic"])


def _throughput(**properties: Any) -> dict[str, Any]:
    return _of("Custom::ProvisionedThroughput", Name="x", **properties)


def _schedule(state: str = "ENABLED") -> dict[str, Any]:
    return _of("AWS::Scheduler::Schedule", State=state, Target={"Input": '{"only": "all"}'})


def _key(principal: str, rotates: bool = True, **statement: Any) -> dict[str, Any]:
    use = {"Effect": "Allow", "Action": ["kms:Decrypt"], "Principal": {"AWS": principal}}
    return _of(
        "AWS::KMS::Key",
        EnableKeyRotation=rotates,
        KeyPolicy={"Statement": [{**use, "Resource": "*", **statement}]},
    )


def _self_rule(direction: str, peer: str) -> dict[str, Any]:
    kind = f"AWS::EC2::SecurityGroup{direction}"
    return _of(kind, GroupId=SELF, IpProtocol="-1", **{peer: SELF})


IN = _self_rule("Ingress", "SourceSecurityGroupId")
OUT = _self_rule("Egress", "DestinationSecurityGroupId")
KMS_BUCKET = _of("AWS::S3::Bucket", BucketEncryption={"Rule": {"KMSMasterKeyID": "k"}})
REFUSAL = _of(
    "AWS::S3::BucketPolicy",
    Bucket={"Ref": "Data"},
    PolicyDocument={
        "Statement": [
            {
                "Effect": "Deny",
                "Action": "s3:PutObject",
                "Condition": {
                    "X": {
                        "s3:x-amz-server-side-encryption-aws-kms-key-id": "k",
                        "s3:x-amz-server-side-encryption": "aws:kms",
                        "s3:x-amz-server-side-encryption-customer-algorithm": "false",
                    }
                },
            }
        ]
    },
)
REPOSITORY = {
    "ImageTagMutability": "IMMUTABLE",
    "ImageScanningConfiguration": {"ScanOnPush": True},
    "EncryptionConfiguration": {"EncryptionType": "KMS", "KmsKey": "k"},
    "LifecyclePolicy": {},
}
GROUP = {
    "InstanceGroupName": "g",
    "InstanceStorageConfigs": [{"EbsVolumeConfig": {"VolumeKmsKeyId": "k"}}],
}
CLUSTER = {"NodeRecovery": "Automatic", "VpcConfig": {}, "InstanceGroups": [GROUP]}
LUSTRE = {"KmsKeyId": "k", "LustreConfiguration": {"DeploymentType": "PERSISTENT_2"}}
PREFIX = {"StringEquals": {"aws:PrincipalAccount": "1"}}
ANY = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Principal": "*"}
FUNCTION = {
    "Description": "Temper: notify",
    "DeadLetterConfig": {},
    "KmsKeyArn": "k",
    "LoggingConfig": {"LogGroup": "g"},
}

Planted = tuple[dict[str, Any], dict[str, Any]]
# Rule → (resources that break it, the same made well).
PLANTED: dict[str, Planted] = {
    "training_job_requires_vpc": (
        {"P": _policy(CREATE, _null("sagemaker:OutputKmsKeyArn"))},
        {"P": _policy(CREATE), "F": _policy(_null("sagemaker:VpcSubnets"))},
    ),
    "training_job_requires_output_kms_key": (
        {"P": _policy({**CREATE, "Action": "sagemaker:*"}, _null("sagemaker:VpcSubnets"))},
        {"P": _policy(CREATE, _null("sagemaker:OutputKmsKeyArn"))},
    ),
    "pass_role_restricts_role": (
        {"P": _pass({"Fn::Join": ["", ["arn:aws:iam::", {"Ref": "AWS::AccountId"}, ":role/*"]]})},
        {"P": _pass({"Fn::GetAtt": ["Training", "Arn"]})},
    ),
    "pass_role_restricts_service": (
        {"P": _pass("arn:aws:iam::1:role/x")},
        {"P": _pass("arn:aws:iam::1:role/x", {"StringEquals": {"iam:PassedToService": "s"}})},
    ),
    "service_trust_has_source_account": (
        {"R": _trust()},
        {"R": _trust(Condition={"StringEquals": {"aws:SourceAccount": "1"}})},
    ),
    "endpoint_config_is_unnamed": (
        {"E": _of("AWS::SageMaker::EndpointConfig", EndpointConfigName="fixed")},
        {"E": _of("AWS::SageMaker::EndpointConfig", ProductionVariants=[])},
    ),
    "alarm_has_action": (
        {"A": _alarm(AlarmName="a"), "C": _composite('ALARM("another")')},
        {"A": _alarm(AlarmName="a"), "C": _composite('ALARM("another") OR ALARM("a")')},
    ),
    "alarm_has_runbook": (
        {"A": _alarm(AlarmDescription="Something is wrong")},
        {"A": _alarm(AlarmDescription="Wrong. Runbook: docs/runbooks/some-thing.md")},
    ),
    "throughput_has_end_date": (
        {"T": _throughput(), "S": _schedule("DISABLED")},
        {"T": _throughput(), "S": _schedule()},
    ),
    "throughput_commitment_is_acknowledged": (
        {"T": _throughput(Commitment="OneMonth", AcknowledgeCommitment=False)},
        {"T": _throughput(Commitment="OneMonth", AcknowledgeCommitment=True)},
    ),
    "efa_sg_self_reference": ({"I": IN}, {"I": IN, "O": OUT}),
    "log_group_has_encryption_and_retention": (
        {"L": _of("AWS::Logs::LogGroup", RetentionInDays=30)},
        {"L": _of("AWS::Logs::LogGroup", RetentionInDays=30, KmsKeyId="k")},
    ),
    "key_policy_least_privilege": (
        {"K": _key("arn:aws:iam::1:root")},
        {"K": _key("arn:aws:iam::1:root", Condition={"StringEquals": {"kms:ViaService": "sns"}})},
    ),
    "key_rotation_enabled": ({"K": _key("r", rotates=False)}, {"K": _key("r")}),
    "bucket_denies_other_kms_keys": (
        {"Data": KMS_BUCKET},
        {"Data": KMS_BUCKET, "Policy": REFUSAL},
    ),
    "bucket_policy_has_source_condition": (
        {"P": _bucket_grant()},
        {"P": _bucket_grant(Condition={"StringEquals": {"aws:SourceAccount": "1"}})},
    ),
    "repository_is_immutable_and_scanned": (
        {"R": _of("AWS::ECR::Repository", **{**REPOSITORY, "ImageTagMutability": "MUTABLE"})},
        {"R": _of("AWS::ECR::Repository", **REPOSITORY)},
    ),
    "secret_has_no_plaintext_value": (
        {"S": _of("AWS::SecretsManager::Secret", SecretString="hf_abc", KmsKeyId="k")},
        {"S": _of("AWS::SecretsManager::Secret", GenerateSecretString={}, KmsKeyId="k")},
    ),
    "queue_and_topic_encrypted": (
        {"T": _of("AWS::SNS::Topic", KmsMasterKeyId="alias/aws/sns")},
        {"T": _of("AWS::SNS::Topic", KmsMasterKeyId="k")},
    ),
    "cluster_has_recovery_and_encryption": (
        {"C": _of("AWS::SageMaker::Cluster", **{**CLUSTER, "NodeRecovery": "None"})},
        {"C": _of("AWS::SageMaker::Cluster", **CLUSTER)},
    ),
    "continuous_provisioning_excludes_slurm_strategy": (
        {
            "C": _of(
                "AWS::SageMaker::Cluster",
                NodeProvisioningMode="Continuous",
                Orchestrator={"Slurm": {"SlurmConfigStrategy": "Managed"}},
            )
        },
        {
            "Continuous": _of(
                "AWS::SageMaker::Cluster",
                NodeProvisioningMode="Continuous",
                Orchestrator={"Slurm": {}},
            ),
            "NotContinuous": _of(
                "AWS::SageMaker::Cluster",
                Orchestrator={"Slurm": {"SlurmConfigStrategy": "Managed"}},
            ),
        },
    ),
    "file_system_is_encrypted": (
        {"F": _of("AWS::FSx::FileSystem", LustreConfiguration=LUSTRE["LustreConfiguration"])},
        {"F": _of("AWS::FSx::FileSystem", **LUSTRE)},
    ),
    "vpc_endpoint_policy_restricts_account": (
        {"E": _of("AWS::EC2::VPCEndpoint", PolicyDocument={"Statement": [ANY]})},
        {
            "E": _of(
                "AWS::EC2::VPCEndpoint",
                PolicyDocument={"Statement": [{**ANY, "Condition": PREFIX}]},
            )
        },
    ),
    "no_deprecated_service": (
        {"M": _of("AWS::SageMaker::MonitoringSchedule")},
        {"M": _of("AWS::SageMaker::ModelPackageGroup")},
    ),
    "managed_policy_within_size_limit": (
        {"P": _policy({**CREATE, "Resource": [f"arn:aws:s3:::bucket-{i}" for i in range(300)]})},
        {"P": _policy(CREATE)},
    ),
    "endpoint_states_its_end": (
        {"E": _of("AWS::SageMaker::Endpoint", Tags=[{"Key": "temper:deployment", "Value": "a"}])},
        {"E": _of("AWS::SageMaker::Endpoint", Tags=[{"Key": "temper:idle-hours", "Value": "6"}])},
    ),
    "endpoint_update_rolls_back": (
        {"E": _of("AWS::SageMaker::Endpoint", DeploymentConfig={"BlueGreenUpdatePolicy": {}})},
        {
            "E": _of("AWS::SageMaker::Endpoint"),
            "C": _of("AWS::SageMaker::InferenceComponent", DeploymentConfig=ROLLBACK),
        },
    ),
    "model_has_no_network": (
        {"M": _of("AWS::SageMaker::Model", VpcConfig={"Subnets": ["s"]})},
        {
            "M": _of(
                "AWS::SageMaker::Model",
                VpcConfig={"Subnets": ["s"]},
                EnableNetworkIsolation=True,
            )
        },
    ),
    "lambda_has_dlq_and_encryption": (
        {"F": _of("AWS::Lambda::Function", Description="Temper: x", KmsKeyArn="k")},
        {"F": _of("AWS::Lambda::Function", **FUNCTION)},
    ),
}


def test_every_rule_has_a_planted_violation() -> None:
    assert list(all_rules()) == sorted(PLANTED)
    assert len(PLANTED) >= 15


@pytest.mark.parametrize("rule", sorted(PLANTED))
def test_the_planted_violation_is_found(rule: str) -> None:
    bad, good = PLANTED[rule]
    found = list(all_rules()[rule](SynthesizedTemplate({"Resources": bad})))
    assert {finding.logical_id for finding in found} <= set(bad)
    assert found
    assert list(all_rules()[rule](SynthesizedTemplate({"Resources": good}))) == []


@pytest.mark.parametrize("rule", sorted(PLANTED))
def test_a_rule_says_what_it_asks(rule: str) -> None:
    assert rule_text(rule).endswith(".")
    assert len(rule_text(rule).split()) >= 6


def test_our_pack_fails_synthesis(tmp_path: Any) -> None:
    import aws_cdk as cdk

    from stacks.nag.temper_pack import TemperRules

    app = cdk.App(outdir=str(tmp_path))
    cdk.CfnResource(cdk.Stack(app, "planted"), "M", type="AWS::SageMaker::MonitoringSchedule")
    cdk.Validations.of(app).add_plugins(TemperRules())
    with pytest.raises(RuntimeError, match="no_deprecated_service"):
        app.synth()
    assert "no_deprecated_service" in (tmp_path / "validation-report.json").read_text()
