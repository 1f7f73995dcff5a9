"""Emulated Amazon Bedrock: imports, custom models, throughput, batches, evaluations, inference.

Requests and responses are validated against the service's description, and models really answer:
each is served by a process of its own. The emulator cannot show which models and settings the
service itself accepts beyond its documentation, nor its prices or its speed.
"""

from __future__ import annotations

from pathlib import Path

from emulator.aws_service import AwsService
from emulator.bedrock_account import BedrockAccount, BedrockFaults, BedrockTimings
from emulator.bedrock_batch import BatchApi
from emulator.bedrock_custom_models import CustomModelApi, DeploymentApi
from emulator.bedrock_customization import CustomizationApi
from emulator.bedrock_evaluations import EvaluationApi
from emulator.bedrock_imports import ImportApi
from emulator.bedrock_runtime import BedrockRuntime, StartProcess
from emulator.bedrock_throughput import ThroughputApi
from emulator.clock import Clock
from emulator.model_process import ModelProcess
from emulator.request_validation import Client


class BedrockEmulator:
    """Bedrock in one Region.

    Args:
        region: Region of the service.
        client: Returns the boto3 client of a service of the emulated account.
        clock: Source of time.
        home: Folder for the files of models.
        timings: Durations of the operations.
        start: Starts the process of a model.

    Attributes:
        log: Log of the invocations.
        services: The services, for a server.
        control: The service `bedrock`; records its calls and plants errors.
        runtime: The service `bedrock-runtime`.
    """

    def __init__(
        self,
        region: str,
        client: Client,
        clock: Clock,
        home: Path,
        timings: BedrockTimings | None = None,
        start: StartProcess = ModelProcess,
    ):
        account = BedrockAccount(region, client, clock, home, timings or BedrockTimings())
        self._account = account
        self.imports, self.custom_models = ImportApi(account), CustomModelApi(account)
        self.customizations = CustomizationApi(account, self.custom_models)
        self.deployments = DeploymentApi(account, self.custom_models)
        self.throughputs = ThroughputApi(account, self.custom_models)
        self._models = BedrockRuntime(
            account, self.imports, self.custom_models, self.deployments, self.throughputs, start
        )
        self.log = self._models.log
        self.batches = BatchApi(account, self._models)
        self.evaluations = EvaluationApi(account, self._models)
        self.control, self.runtime = self._control(), self._runtime()
        self.services = (self.control, self.runtime)

    @property
    def faults(self) -> BedrockFaults:
        """Faults to inject."""
        return self._account.faults

    @property
    def timings(self) -> BedrockTimings:
        """Durations of the operations."""
        return self._account.timings

    def add_foundation_model(self, name: str, folder: Path) -> None:
        """Let the weights of a folder answer for a foundation model."""
        self._account.foundation_models[name] = folder

    def settle(self) -> None:
        """Wait for what takes this machine's time: starts of the processes of models."""
        self._models.settle()

    def close(self) -> None:
        """End all processes."""
        self._models.close()

    def _control(self) -> AwsService:
        imports, custom, account = self.imports, self.custom_models, self._account
        customizations = self.customizations
        deployments, throughputs, batches = self.deployments, self.throughputs, self.batches
        return AwsService(
            "bedrock",
            {
                "CreateModelImportJob": imports.create,
                "GetModelImportJob": imports.get_job,
                "ListModelImportJobs": imports.list_jobs,
                "GetImportedModel": imports.get_model,
                "ListImportedModels": imports.list_models,
                "DeleteImportedModel": imports.delete_model,
                "CreateModelCustomizationJob": customizations.create,
                "GetModelCustomizationJob": customizations.get,
                "ListModelCustomizationJobs": customizations.list,
                "StopModelCustomizationJob": customizations.stop,
                "CreateCustomModel": custom.create,
                "GetCustomModel": custom.get,
                "ListCustomModels": custom.list,
                "DeleteCustomModel": custom.delete,
                "CreateCustomModelDeployment": deployments.create,
                "GetCustomModelDeployment": deployments.get,
                "ListCustomModelDeployments": deployments.list,
                "UpdateCustomModelDeployment": deployments.update,
                "DeleteCustomModelDeployment": deployments.delete,
                "CreateProvisionedModelThroughput": throughputs.create,
                "GetProvisionedModelThroughput": throughputs.get,
                "ListProvisionedModelThroughputs": throughputs.list,
                "UpdateProvisionedModelThroughput": throughputs.update,
                "DeleteProvisionedModelThroughput": throughputs.delete,
                "CreateModelInvocationJob": batches.create,
                "GetModelInvocationJob": batches.get,
                "StopModelInvocationJob": batches.stop,
                "CreateEvaluationJob": self.evaluations.create,
                "GetEvaluationJob": self.evaluations.get,
                "ListEvaluationJobs": self.evaluations.list_jobs,
                "StopEvaluationJob": self.evaluations.stop,
                "PutModelInvocationLoggingConfiguration": self.log.put,
                "GetModelInvocationLoggingConfiguration": self.log.get,
                "DeleteModelInvocationLoggingConfiguration": self.log.delete,
                "TagResource": account.tag_resource,
                "UntagResource": account.untag_resource,
                "ListTagsForResource": account.list_tags,
            },
        )

    def _runtime(self) -> AwsService:
        return AwsService(
            "bedrock-runtime",
            {
                "InvokeModel": self._models.invoke,
                "InvokeModelWithResponseStream": self._models.invoke_stream,
                "Converse": self._models.converse,
                "ConverseStream": self._models.converse_stream,
            },
        )
