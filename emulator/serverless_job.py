"""Emulated training job with a `ServerlessJobConfig`: customization of a model of the hub."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.hub import EmulatedHub, HubContent, parameter_error
from emulator.managed_records import invalid_records
from emulator.managed_training import CustomizationWork, Train, TrainingFailedError
from emulator.request_validation import (
    Client,
    RequestRejected,
    check_function,
    check_keys,
    check_network,
    check_role,
    reject,
)
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

RECORDS = {
    ("SFT", False): "openai-chat",
    ("SFT", True): "converse",
    ("DPO", False): "hf-preference",
    ("DPO", True): "converse-preference",
    ("RLVR", False): "verl",
    ("RLVR", True): "openai-prompts",
}
"""Format of the records by technique, and by whether the model is Amazon Nova."""
_EXCLUDED = ("AlgorithmSpecification", "ResourceConfig", "CheckpointConfig")
_ESCROW = "escrow"
_QUEUE_S = 0.3


def check_serverless_request(request: Mapping[str, Any], client: Client, hub: EmulatedHub) -> None:
    """Raise if the service would reject a request of serverless customization.

    Args:
        request: Parameters of the request.
        client: Returns the boto3 client of a service of the emulated account.
        hub: Hub with the base model.

    Raises:
        RequestRejected: It would.
    """
    config = request["ServerlessJobConfig"]
    if excluded := [key for key in _EXCLUDED if key in request]:
        reject(f"{', '.join(excluded)} cannot be combined with ServerlessJobConfig")
    model = hub.find(config["BaseModelArn"])
    if model is None:
        reject(f"The base model {config['BaseModelArn']} was not found")
    technique = config.get("CustomizationTechnique", "")
    if not model.has_recipe(technique, config.get("SequenceLength")):
        reject(f"The model {model.name} does not support {technique}")
    if model.gated and not config.get("AcceptEula"):
        raise RequestRejected(
            "AccessDeniedException", "The end-user license agreement of the model is not accepted"
        )
    if technique == "RLVR":
        if not config.get("EvaluatorArn"):
            reject("EvaluatorArn is required for RLVR")
        function = hub.private.grader_of(config["EvaluatorArn"])
        if function is None:
            reject(f"The evaluator {config['EvaluatorArn']} was not found")
        check_function(function, client)
    if "ModelPackageConfig" not in request:
        reject("ModelPackageConfig is required for serverless customization")
    if problem := parameter_error(request.get("HyperParameters", {}), model.parameters):
        reject(problem)
    _check_channels(request, model)
    check_role(request["RoleArn"], client)
    check_keys([request["OutputDataConfig"].get("KmsKeyId")], client)
    check_network(request.get("VpcConfig"), client)


def _check_channels(request: Mapping[str, Any], model: HubContent) -> None:
    channels = {one["ChannelName"]: one for one in request.get("InputDataConfig", ())}
    if "train" not in channels or set(channels) - {"train", "validation"}:
        reject("The channels of serverless customization are train and validation")
    technique = request["ServerlessJobConfig"]["CustomizationTechnique"]
    wanted = "Converse" if "nova" in model.name and technique != "RLVR" else "S3Prefix"
    for name, channel in channels.items():
        kind = channel["DataSource"]["S3DataSource"]["S3DataType"]
        if kind != wanted:
            reject(f"S3DataType of the channel {name} must be {wanted}, not {kind}")


class EmulatedServerlessJob:
    """Training job that a thread executes from its creation to its end.

    Args:
        request: Accepted CreateTrainingJob request.
        arn: ARN of the job.
        home: Folder for its files.
        client: Returns the boto3 client of a service of the emulated account.
        hub: Hub with the base model.
        train: Trains the records.
    """

    def __init__(
        self,
        request: dict[str, Any],
        *,
        arn: str,
        home: Path,
        client: Client,
        hub: EmulatedHub,
        train: Train,
    ):
        self.request = request
        self._home, self._client, self._hub, self._train = home, client, hub, train
        self._stopped, self._lock = threading.Event(), threading.Lock()
        now = time.time()
        limit = {"MaxRuntimeInSeconds": 86400}
        self._description: dict[str, Any] = {
            "StoppingCondition": limit,
            **request,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the job's thread."""
        self._thread.start()

    def describe(self) -> dict[str, Any]:
        """Return the job as DescribeTrainingJob does."""
        with self._lock:
            return dict(self._description)

    def trigger(self, event: str) -> None:
        """Stop the job; machines of the service are not interrupted."""
        with self._lock:
            if event == "stop" and self._description["TrainingJobStatus"] == "InProgress":
                self._description["TrainingJobStatus"] = "Stopping"
                self._stopped.set()

    @property
    def is_over(self) -> bool:
        """True if the status is final."""
        return self._description["TrainingJobStatus"] in ("Completed", "Failed", "Stopped")

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the job."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._customize()
        except Exception as error:  # the service, too, reports its own faults as a failed job
            self._end("Failed", FailureReason=f"InternalServerError: {error!r}")

    def _customize(self) -> None:
        config = self.request["ServerlessJobConfig"]
        model = self._hub.find(config["BaseModelArn"])
        assert model is not None, "checked when the job was created"
        nova, technique = "nova" in model.name, config["CustomizationTechnique"]
        kind = RECORDS[technique, nova]
        texts = {
            channel["ChannelName"]: self._read(channel)
            for channel in self.request["InputDataConfig"]
        }
        parameters = self.request.get("HyperParameters", {})
        epochs = float(parameters.get("max_epochs", 1))
        tokens = int(sum(len(text.split()) for text in texts.values()) * epochs)
        work = CustomizationWork(
            base=model.folder,
            records=texts["train"],
            kind=kind,
            home=self._home,
            epochs=epochs,
            learning_rate=float(parameters.get("learning_rate", 1e-4)),
        )
        trained = self._trained(work, texts)
        if trained is None:
            return
        self._enter("Uploading")
        results = self._publish(model, trained, nova=nova)
        self._end("Completed", BillableTokenCount=tokens, **results)
        shutil.rmtree(self._home, ignore_errors=True)

    def _trained(self, work: CustomizationWork, texts: Mapping[str, str]) -> Path | None:
        """Return the trained model; None if the job ended without one.

        Args:
            work: What is trained.
            texts: Records of each channel.
        """
        for name, text in texts.items():
            if problems := invalid_records(text, work.kind):
                reason = f"ClientError: the channel {name} is invalid: {problems[0]}"
                self._end("Failed", FailureReason=reason)
                return None
        self._enter("Training", TrainingStartTime=time.time())
        if self._stopped.wait(_QUEUE_S):
            billed = {"BillableTokenCount": 0} if "ServerlessJobConfig" in self.request else {}
            self._end("Stopped", **billed)
            return None
        try:
            return self._train(work)
        except TrainingFailedError as error:
            self._end("Failed", FailureReason=f"AlgorithmError: {error}")
            return None

    def _read(self, channel: Mapping[str, Any]) -> str:
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        return EmulatedBucket(self._client("s3")).read(S3Uri.parse(uri)).decode()

    def _publish(self, model: HubContent, trained: Path, *, nova: bool) -> dict[str, Any]:
        """Upload the model and register it; return what the description of the job then has."""
        name, s3 = self.request["TrainingJobName"], self._client("s3")
        output = S3Uri.parse(self.request["OutputDataConfig"]["S3OutputPath"].rstrip("/"))
        artifacts = output / name / "output" / "model"
        if nova:
            # Weights of Amazon Nova stay in a bucket of the service.
            artifacts = S3Uri(f"{_ESCROW}-{self._hub.bucket}", name)
            s3.create_bucket(Bucket=artifacts.bucket)
            EmulatedBucket(s3).upload_folder(trained, artifacts, None)
        else:
            merged = artifacts / "checkpoints" / "hf_merged"
            EmulatedBucket(s3).upload_folder(trained, merged, None)
        package = self._register(model, f"{artifacts}/")
        found: dict[str, Any] = {"OutputModelPackageArn": package}
        if not nova:
            found["ModelArtifacts"] = {"S3ModelArtifacts": f"{artifacts}/"}
        return found

    def _register(self, model: HubContent, address: str) -> str:
        sagemaker = self._client("sagemaker")
        group = self.request["ModelPackageConfig"]["ModelPackageGroupArn"].rpartition("/")[2]
        groups = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
        if group not in [one["ModelPackageGroupName"] for one in groups]:
            sagemaker.create_model_package_group(ModelPackageGroupName=group)
        container = {
            "BaseModel": {"HubContentName": model.name, "HubContentVersion": "1.0.0"},
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": address,
                    "S3DataType": "S3Prefix",
                    "CompressionType": "None",
                }
            },
        }
        answer = sagemaker.create_model_package(
            ModelPackageGroupName=group, InferenceSpecification={"Containers": [container]}
        )
        return str(answer["ModelPackageArn"])

    def _enter(self, secondary: str, **more: Any) -> None:
        with self._lock:
            now = time.time()
            self._description |= {"SecondaryStatus": secondary, "LastModifiedTime": now, **more}

    def _end(self, status: str, **more: Any) -> None:
        self._enter(status, TrainingJobStatus=status, TrainingEndTime=time.time(), **more)
