"""Emulated training job that runs a recipe of SageMaker HyperPod.

The container reads the file of the recipe from a channel, and its data and weights from the paths
that the file names, so that a path to no channel fails here as it fails there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from emulator.hub import EmulatedHub
from emulator.managed_training import CustomizationWork
from emulator.request_validation import (
    Client,
    check_function,
    check_job_quota,
    check_keys,
    check_network,
    check_resource_config,
    check_role,
    reject,
)
from emulator.s3_sync import EmulatedBucket
from emulator.serverless_job import RECORDS, EmulatedServerlessJob
from launch.aws.s3 import S3Uri

_INPUTS = PurePosixPath("/opt/ml/input/data")
_PATH = "sagemaker_recipe_local_path"


def check_recipe_request(
    request: dict[str, Any], client: Client, hub: EmulatedHub, quotas: Mapping[str, int]
) -> None:
    """Raise if the service would reject a request that runs a recipe.

    Args:
        request: Parameters of the request.
        client: Returns the boto3 client of a service of the emulated account.
        hub: Hub with the recipes.
        quotas: Allowed number of instances by type.

    Raises:
        RequestRejected: It would.
    """
    check_resource_config(request, client)
    check_job_quota(request, quotas)
    check_role(request["RoleArn"], client)
    output, config = request["OutputDataConfig"], request["ResourceConfig"]
    check_keys([output.get("KmsKeyId"), config.get("VolumeKmsKeyId")], client)
    check_network(request.get("VpcConfig"), client)
    for channel in request["InputDataConfig"]:
        source = channel["DataSource"]["S3DataSource"]
        gated = hub.is_gated(source["S3Uri"])
        if gated and not source.get("ModelAccessConfig", {}).get("AcceptEula"):
            reject("The end-user license agreement of the model is not accepted")


class EmulatedRecipeJob(EmulatedServerlessJob):
    """Training job whose container runs the recipe that it reads from a channel."""

    def _customize(self) -> None:
        channels = {
            one["ChannelName"]: S3Uri.parse(one["DataSource"]["S3DataSource"]["S3Uri"])
            for one in self.request["InputDataConfig"]
        }
        recipe = self._recipe(channels)
        if isinstance(recipe, str):
            self._end("Failed", FailureReason=f"AlgorithmError: {recipe}")
            return
        run, config = recipe["run"], recipe["training_config"]
        arguments = config["training_args"]
        records = self._file(channels, config["datasets"]["train_data"]["file_path"])
        weights = self._file(channels, config["model_config"]["model_name_or_path"])
        if not (records and weights):
            self._end("Failed", FailureReason="AlgorithmError: FileNotFoundError")
            return
        if function := run.get("reward_lambda_arn"):
            check_function(function, self._client)
        text = EmulatedBucket(self._client("s3")).read(records).decode()
        base = self._hub.folder_of(str(weights))
        work = CustomizationWork(
            base=base,
            records=text,
            kind=RECORDS[arguments["trainer_type"].upper(), False],
            home=self._home,
            epochs=float(arguments["max_epochs"]),
            learning_rate=float(arguments["learning_rate"]),
        )
        trained = self._trained(work, {"train": text})
        if trained is not None:
            self._upload(trained, arguments["training_dir"])

    def _recipe(self, channels: Mapping[str, S3Uri]) -> Any:
        """Return the recipe, or why it cannot be read."""
        path = self._file(channels, self.request["HyperParameters"][_PATH])
        if path is None:
            return "the recipe is in no channel"
        text = EmulatedBucket(self._client("s3")).read(path).decode()
        return "the recipe has a placeholder" if "{{" in text else yaml.safe_load(text)

    def _file(self, channels: Mapping[str, S3Uri], path: str) -> S3Uri | None:
        """Return the object or prefix behind a path in the container, None if it has none."""
        try:
            channel, *rest = PurePosixPath(path).relative_to(_INPUTS).parts
        except ValueError:
            return None
        address = channels.get(channel)
        if address is None or not rest:
            return address
        if address.key.endswith(rest[-1]):
            return address
        return address / "/".join(rest)

    def _upload(self, trained: Path, folder: str) -> None:
        self._enter("Uploading")
        name = self.request["TrainingJobName"]
        output = S3Uri.parse(self.request["OutputDataConfig"]["S3OutputPath"].rstrip("/"))
        model = output / name / "output" / "model"
        if folder == "/opt/ml/model":
            merged = model / "checkpoints" / "hf_merged"
            EmulatedBucket(self._client("s3")).upload_folder(trained, merged, None)
        self._end("Completed", ModelArtifacts={"S3ModelArtifacts": f"{model}/"})
