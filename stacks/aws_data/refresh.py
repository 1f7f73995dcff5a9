"""Generator of the tables in this folder, from data that the pinned tools contain.

Run `python -m stacks.aws_data.refresh` after an update of moto, cfn-lint or botocore; a test
compares the result. The zones of instance types are the responses of EC2 to
DescribeInstanceTypeOfferings as moto records them. Resource types by Region are the schemas of
the CloudFormation registry as cfn-lint records them. The types that HyperPod, training jobs and
endpoints accept are in botocore's description of the service. None of them says anything about
available capacity.
"""

import gzip
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ACCELERATED = ("p4d.", "p4de.", "p5.", "p5e.", "p5en.", "p6-", "g5.", "g6.", "g6e.", "trn")
REGIONAL_TYPES = (
    "AWS::SageMaker::Cluster",
    "AWS::SageMaker::ClusterSchedulerConfig",
    "AWS::SageMaker::ComputeQuota",
    "AWS::SageMaker::MlflowApp",
    "AWS::SageMaker::InferenceComponent",
    "AWS::SageMaker::ModelPackageGroup",
    "AWS::Bedrock::Guardrail",
    "AWS::FSx::FileSystem",
    "AWS::FSx::DataRepositoryAssociation",
    "AWS::Budgets::Budget",
    "AWS::Budgets::BudgetsAction",
    "AWS::CE::AnomalyMonitor",
    "AWS::CE::AnomalySubscription",
    "AWS::ECR::PullThroughCacheRule",
    "AWS::Scheduler::Schedule",
)


def main() -> None:
    """Write the five tables."""
    _write("instances.yaml", _source("moto"), instances())
    _write("regions.yaml", _source("cfn-lint"), regions())
    _write("hyperpod_instances.yaml", _source("botocore"), hyperpod_instances())
    _write("training_instances.yaml", _source("botocore"), training_instances())
    _write("endpoint_instances.yaml", _source("botocore"), endpoint_instances())


def instances() -> dict[str, Any]:
    """Return the accelerated instance types with the zones that offer each."""
    types = _recorded("instance_types.json.gz")
    offered: dict[str, list[str]] = {}
    for file in sorted(_moto("instance_type_offerings/availability-zone-id").glob("*.json.gz")):
        for offer in json.loads(gzip.decompress(file.read_bytes())):
            offered.setdefault(offer["InstanceType"], []).append(offer["Location"])
    return {
        name: {"zones": sorted(offered.get(name, []))}
        for name, described in sorted(types.items())
        if name.startswith(ACCELERATED) and _has_devices(described)
    }


def hyperpod_instances() -> list[str]:
    """Return the instance types of HyperPod."""
    return _enumeration("ClusterInstanceType")


def training_instances() -> list[str]:
    """Return the instance types of training jobs."""
    return _enumeration("TrainingInstanceType")


def endpoint_instances() -> list[str]:
    """Return the instance types of endpoints."""
    return _enumeration("ProductionVariantInstanceType")


def _enumeration(shape_name: str) -> list[str]:
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    shape: Any = model.shape_for(shape_name)
    return sorted(shape.enum)


def regions() -> dict[str, Any]:
    """Return every Region with the resource types, of those the platform uses, that it lacks."""
    from cfnlint.schema import ResourceNotFoundError
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    table: dict[str, list[str]] = {}
    for file in sorted(_moto("instance_type_offerings/region").glob("*.json.gz")):
        region = file.name.removesuffix(".json.gz")
        lacking = []
        for resource_type in REGIONAL_TYPES:
            try:
                PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, resource_type)
            except ResourceNotFoundError:
                lacking.append(resource_type)
        table[region] = lacking
    return table


def _has_devices(described: dict[str, Any]) -> bool:
    """Return whether EC2 describes a type with GPUs or Neuron devices."""
    return "GpuInfo" in described or "NeuronInfo" in described


def _recorded(name: str) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(gzip.decompress(_moto(name).read_bytes()))
    return recorded


def _moto(path: str) -> Path:
    import moto

    return Path(moto.__file__).parent / "ec2" / "resources" / path


def _source(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def _write(name: str, source: str, table: dict[str, Any] | list[str]) -> None:
    text = yaml.safe_dump({"source": source, "table": table}, default_flow_style=None, width=100)
    header = "# Written by `python -m stacks.aws_data.refresh`; not edited by hand.\n"
    (HERE / name).write_text(header + text, encoding="utf-8")


if __name__ == "__main__":
    main()
