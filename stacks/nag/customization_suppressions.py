"""Accepted wildcards in the policies of managed customization, each with its reason."""

from stacks.nag.suppression import Suppression

_ROLE = r"security/BedrockCustomization/Policy/Resource"
_ENGINEER = r"security/Engineer/Customization/Resource"
_JOBS = r"security/(Training|JobWithSecrets)/Policy/Resource"
_ARN = r"arn:<AWS::Partition>:"
_ACCOUNT = r"[a-z0-9-]*:(\d+|<AWS::AccountId>):"

CUSTOMIZATION = (
    Suppression(
        r"IAM5\[Action::kms:(GenerateDataKey|ReEncrypt)\*\]",
        _ROLE,
        "These are families of one operation; the resource is the key of models.",
    ),
    Suppression(
        r"IAM5\[Resource::\*\]",
        f"{_ROLE}|{_ENGINEER}",
        "Describe actions of EC2, and listing customization jobs, support no resource.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}ec2:{_ACCOUNT}(subnet|security-group|network-interface)/\*\]",
        _ROLE,
        "The job names its subnets and groups; an interface is made and removed only with the tag "
        "of Bedrock.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}lambda:{_ACCOUNT}function:[a-z0-9-]+-grader-\*\]",
        rf"{_ROLE}|{_ENGINEER}|{_JOBS}",
        "Graders are built for each reward; their names begin with that of the environment.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}s3:::[a-z0-9-]+-(<AWS::AccountId>|\d+)-[a-z0-9-]+/(uploads|models)/\*\]",
        _ROLE,
        "Object keys are not known in advance; the resource is one folder of a bucket.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}s3:::jumpstart-\*-[^/\]]+(/\*)?\]",
        rf"{_ENGINEER}|{_JOBS}",
        "AWS owns these buckets, which hold the recipes and the weights of its hub.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}bedrock:([a-z0-9-]*|<AWS::Region>):(\d+|<AWS::AccountId>)?:"
        r"(model-customization-job|foundation-model)/\*\]",
        _ENGINEER,
        "Bedrock generates the ids of jobs; which models are customized is the engineers' choice.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}sagemaker:[^\]]*:hub-content/SageMakerPublicHub/Model/\*\]",
        _ENGINEER,
        "Models of the public hub are read by their names, with their versions.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}sagemaker:{_ACCOUNT}hub-content/[a-z0-9-]+-graders/JsonDoc/\*\]",
        rf"{_ENGINEER}|{_JOBS}",
        "An evaluator is made for each run, in a hub of the environment.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}ecr:[a-z0-9-]+:\*:repository/hyperpod-recipes\*\]",
        _JOBS,
        "AWS publishes the images of recipes from a different account in each Region.",
    ),
    Suppression(
        rf"IAM5\[Resource::{_ARN}logs:{_ACCOUNT}log-group:/aws/lambda/[a-z0-9-]+-graders:\*\]",
        r"security/Grader/Policy/Resource",
        "Lambda names the log streams; the resource is one log group.",
    ),
)
