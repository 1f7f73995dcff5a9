"""Synthesized policies with every reference replaced by the value it resolves to."""

from dataclasses import dataclass
from typing import Any

from stacks.nag.template import as_list
from tests.infra.conftest import Assembly

ACCOUNT, REGION = "111122223333", "us-east-1"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
ARNS = {
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
    "AWS::IAM::ManagedPolicy": f"arn:aws:iam::{ACCOUNT}:policy/{{}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{{}}",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{}}",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{}}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{}}:*",
    "AWS::SageMaker::MlflowApp": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-app/{{}}",
    "AWS::EKS::Cluster": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{{}}",
    "AWS::ECR::Repository": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{{}}",
}
# RDS generates the name of the secret.
DATABASE_PASSWORD = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-0a1b2c3d-AbCdEf"
# SageMaker generates the id of the cluster.
CLUSTER = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:cluster/abcdefghijkl"
NAMES = {
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::EKS::Cluster": "Name",
    "AWS::S3::Bucket": "BucketName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::Logs::LogGroup": "LogGroupName",
}


@dataclass(frozen=True)
class ResolvedRoles:
    """Roles, policies and keys of an environment, with references across stacks resolved."""

    assembly: Assembly

    @property
    def prefix(self) -> str:
        """Prefix of the environment's names."""
        [name] = {
            name.removesuffix("-security")
            for name in self.assembly.tags
            if name.endswith("-security")
        }
        return name

    def mlflow_app(self) -> str:
        """Return the ARN of the environment's MLflow app."""
        resources = self.assembly.templates["training"]["Resources"]
        [app] = [k for k, r in resources.items() if r["Type"] == "AWS::SageMaker::MlflowApp"]
        return self._attribute("training", app, "Arn")

    def resource(self, stack: str, logical_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.assembly.templates[stack]["Resources"][logical_id]
        return found

    def resolve(self, stack: str, value: Any) -> Any:
        """Return the value with its intrinsic functions evaluated."""
        if isinstance(value, list):
            return [self.resolve(stack, each) for each in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function == "Ref":
                return PSEUDO.get(argument) or self._ref(stack, argument)
            if function == "Fn::Join":
                separator, parts = argument
                return separator.join(str(self.resolve(stack, part)) for part in parts)
            if function == "Fn::GetAtt":
                return self._attribute(stack, *argument)
            if function == "Fn::ImportValue":
                return self._imported(argument)
            if function.startswith("Fn::"):
                raise NotImplementedError(f"{function} in {stack}")
        return {key: self.resolve(stack, each) for key, each in value.items()}

    def _ref(self, stack: str, logical_id: str) -> str:
        resource = self.resource(stack, logical_id)
        kind = resource["Type"]
        if kind in ("AWS::IAM::ManagedPolicy", "AWS::SNS::Topic"):
            return self._attribute(stack, logical_id, "Arn")
        return self._name(stack, logical_id)

    def _name(self, stack: str, logical_id: str) -> str:
        resource = self.resource(stack, logical_id)
        given = resource.get("Properties", {}).get(NAMES.get(resource["Type"], ""))
        return str(self.resolve(stack, given)) if given else logical_id

    def _attribute(self, stack: str, logical_id: str, attribute: str) -> str:
        kind = self.resource(stack, logical_id)["Type"]
        if attribute == "MasterUserSecret.SecretArn":
            return DATABASE_PASSWORD
        if attribute == "ClusterArn":
            return CLUSTER
        if attribute == "Arn" or kind == "AWS::SageMaker::MlflowApp":
            return ARNS[kind].format(self._name(stack, logical_id))
        return f"{attribute.lower()}-of-{logical_id}"

    def _imported(self, name: str) -> Any:
        for stack, template in self.assembly.templates.items():
            for output in template.get("Outputs", {}).values():
                if output.get("Export", {}).get("Name") == name:
                    return self.resolve(stack, output["Value"])
        raise LookupError(f"nothing exports {name}")

    def role(self, beginning: str) -> str:
        """Return the logical id of the one role of the platform that begins with `beginning`.

        Most roles are in the security stack; another is looked for only if it has none.
        """
        stacks = ("security", "hyperpod", "serving")
        found = [
            logical_id
            for stack in stacks
            for logical_id, resource in self.assembly.templates.get(stack, {})
            .get("Resources", {})
            .items()
            if resource["Type"] == "AWS::IAM::Role" and logical_id.startswith(beginning)
        ]
        return found[0]

    def policies_of(self, role: str) -> list[dict[str, Any]]:
        """Return the managed policies attached to the role, from every stack."""
        found = []
        for stack, template in self.assembly.templates.items():
            for logical_id, resource in template["Resources"].items():
                if resource["Type"] != "AWS::IAM::ManagedPolicy":
                    continue
                roles = self.resolve(stack, as_list(resource["Properties"].get("Roles")))
                if role in roles:
                    document = self.resolve(stack, resource["Properties"]["PolicyDocument"])
                    found.append({"name": logical_id, "policy": document})
        return found

    def boundary(self) -> dict[str, Any] | None:
        """Return the managed permissions boundary, if there is one."""
        template = self.assembly.templates["security"]["Resources"]
        logical_id = next((k for k in template if k.startswith("Boundary")), None)
        if logical_id is None:
            return None
        document = template[logical_id]["Properties"]["PolicyDocument"]
        return {"name": logical_id, "policy": self.resolve("security", document)}

    def endpoint_policies(self, service: str) -> list[dict[str, Any]]:
        """Return the policies of the VPC endpoints of a service (`s3`, `experiments`)."""
        policies = []
        for logical_id, resource in self.assembly.templates["network"]["Resources"].items():
            if resource["Type"] != "AWS::EC2::VPCEndpoint":
                continue
            properties = self.resolve("network", resource["Properties"])
            if not properties["ServiceName"].endswith(f".{service}"):
                continue
            document = properties["PolicyDocument"]
            for statement in document["Statement"]:
                # Two spellings of everyone, of which the simulator accepts the shorter one only
                # (IAM User Guide, "AWS JSON policy elements: Principal").
                if statement["Principal"] == {"AWS": "*"}:
                    statement["Principal"] = "*"
            policies.append({"name": logical_id, "policy": document})
        return policies

    def key(self, domain: str) -> tuple[str, dict[str, Any]]:
        """Return the ARN and the policy of a domain's KMS key."""
        template = self.assembly.templates["security"]["Resources"]
        [logical_id] = [
            k
            for k, r in template.items()
            if r["Type"] == "AWS::KMS::Key" and k.startswith(f"{domain.title()}Key")
        ]
        policy = self.resolve("security", template[logical_id]["Properties"]["KeyPolicy"])
        return self._attribute("security", logical_id, "Arn"), policy

    def bucket_policy(self, kind: str) -> dict[str, Any]:
        """Return the policy of a bucket of the storage stack."""
        template = self.assembly.templates["storage"]["Resources"]
        [logical_id] = [
            k
            for k, r in template.items()
            if r["Type"] == "AWS::S3::BucketPolicy" and k.startswith(f"{kind.title()}Bucket")
        ]
        resolved: dict[str, Any] = self.resolve(
            "storage", template[logical_id]["Properties"]["PolicyDocument"]
        )
        return resolved
