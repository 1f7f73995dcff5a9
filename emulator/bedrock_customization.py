"""Emulated customization of Bedrock's foundation models.

Requests and records are checked by the documented limits; the emulator cannot show what the service
enforces beyond its documentation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from catalog.managed_training import ManagedMethod, ManagedModel, providers
from emulator.bedrock_account import BedrockAccount, BedrockResources, reject_conflict
from emulator.bedrock_custom_models import CustomModelApi
from emulator.managed_records import invalid_records
from emulator.managed_training import CustomizationWork, Train, TrainingFailedError, train_here
from emulator.request_validation import (
    check_function,
    check_keys,
    check_network,
    check_role,
    reject,
)
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri
from validation.json_lines import split_lines

_PHASES = ("validationDetails", "dataProcessingDetails", "trainingDetails")
_TECHNIQUES = {
    "sft": "FINE_TUNING",
    "distill_text": "DISTILLATION",
    "grpo": "REINFORCEMENT_FINE_TUNING",
}
_SUMMARY = (
    *("jobArn", "baseModelArn", "jobName", "status", "statusDetails", "lastModifiedTime"),
    *("creationTime", "endTime", "customizationType"),
)


class CustomizationApi:
    """Customization jobs.

    Args:
        account: The account.
        custom_models: Its custom models, to which the jobs add theirs.

    Attributes:
        train: Trains the records of a job; on this machine by default.
    """

    def __init__(self, account: BedrockAccount, custom_models: CustomModelApi):
        self._account, self._models = account, custom_models
        self.train: Train = train_here
        self.jobs = BedrockResources(account, "jobArn", "jobName")

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a job (CreateModelCustomizationJob).

        Raises:
            RequestRejected: Something it names does not exist, or does not fit the model.
        """
        account = self._account
        model, kind = self._model(request)
        method = model.methods[kind]
        account.check_agreement(model.name)
        self._check_account(request)
        _check_parameters(request, method, kind)
        if kind == "grpo":
            grader = request["customizationConfig"]["rftConfig"]["graderConfig"]["lambdaGrader"]
            check_function(grader["lambdaArn"], account.client)

        def create(arn: str) -> None:
            if self.jobs.find(request["jobName"]):
                reject_conflict(f"A job named {request['jobName']} already exists")
            if self._models.models.find(request["customModelName"]):
                name = request["customModelName"]
                reject_conflict(f"A custom model named {name} already exists")
            self.jobs.add(self._description(arn, request, model), request.get("jobTags", ()))

        def start(arn: str) -> None:
            self._enter(self.jobs.get(arn), 0, request, kind)

        arn_kind = f"model-customization-job/{model.name.replace(':', '.')}"
        return {"jobArn": account.create_once(request, arn_kind, create, start)}

    def _model(self, request: Mapping[str, Any]) -> tuple[ManagedModel, str]:
        base = request["baseModelIdentifier"].rpartition("/")[2]
        provider = providers()["bedrock-customization"]
        model = provider.find(base)
        if model is None or base not in (model.base, model.name):
            reject(f"The model {base} does not support customization")
        if self._account.region not in model.regions:
            reject(f"The model {base} is not customized in {self._account.region}")
        technique = request.get("customizationType", "FINE_TUNING")
        kinds = [kind for kind, name in _TECHNIQUES.items() if name == technique]
        if not kinds or kinds[0] not in model.methods:
            reject(f"The model {base} does not support the customization type {technique}")
        return model, kinds[0]

    def _check_account(self, request: Mapping[str, Any]) -> None:
        account = self._account
        check_role(request["roleArn"], account.client, "bedrock.amazonaws.com")
        check_keys([request.get("customModelKmsKeyId")], account.client)
        if vpc := request.get("vpcConfig"):
            network = {"Subnets": vpc["subnetIds"], "SecurityGroupIds": vpc["securityGroupIds"]}
            check_network(network, account.client)

    def _description(
        self, arn: str, request: Mapping[str, Any], model: ManagedModel
    ) -> dict[str, Any]:
        now = self._account.now()
        base = f"arn:aws:bedrock:{self._account.region}::foundation-model/{model.base}"
        kept = ("hyperParameters", "vpcConfig", "customizationConfig", "customizationType")
        return {
            "jobArn": arn,
            "jobName": request["jobName"],
            "outputModelName": request["customModelName"],
            "roleArn": request["roleArn"],
            "status": "InProgress",
            "statusDetails": {phase: {"status": "NotStarted"} for phase in _PHASES},
            "creationTime": now,
            "lastModifiedTime": now,
            "baseModelArn": base,
            "trainingDataConfig": request["trainingDataConfig"],
            "validationDataConfig": request.get("validationDataConfig", {"validators": []}),
            "outputDataConfig": request["outputDataConfig"],
            **{key: request[key] for key in kept if key in request},
        }

    def _enter(self, job: dict[str, Any], phase: int, request: dict[str, Any], kind: str) -> None:
        """Begin a phase of a job, and end it after its share of the job's time."""
        account = self._account
        job["statusDetails"][_PHASES[phase]] = self._phase("InProgress")

        def end() -> None:
            if job["status"] == "Stopping":
                self._end(job, "Stopped", phase)
                return
            failure = self._work(job, phase, request, kind)
            if failure:
                self._end(job, "Failed", phase, failure)
            elif phase + 1 < len(_PHASES):
                job["statusDetails"][_PHASES[phase]] = self._phase("Completed")
                self._enter(job, phase + 1, request, kind)
            else:
                self._end(job, "Completed", phase)

        account.clock.call_later(account.timings.customize_s / len(_PHASES), end)

    def _phase(self, status: str) -> dict[str, Any]:
        now = self._account.now()
        return {"status": status, "creationTime": now, "lastModifiedTime": now}

    def _end(self, job: dict[str, Any], status: str, phase: int, failure: str = "") -> None:
        job["statusDetails"][_PHASES[phase]] = self._phase(status)
        now = self._account.now()
        job |= {"status": status, "lastModifiedTime": now, "endTime": now}
        if failure:
            job["failureMessage"] = failure

    def _work(self, job: dict[str, Any], phase: int, request: dict[str, Any], kind: str) -> str:
        """Do the work of a phase; return why it fails, or nothing."""
        if phase == 0:
            return self._check_data(request, kind)
        if phase == 1:
            failures = self._account.faults.failed_customizations
            return failures.pop(0) if failures else ""
        return self._make_model(job, request, kind)

    def _check_data(self, request: Mapping[str, Any], kind: str) -> str:
        model, _ = self._model(request)
        uris = [request["trainingDataConfig"]["s3Uri"]]
        validators = request.get("validationDataConfig", {"validators": []})["validators"]
        uris += [one["s3Uri"] for one in validators]
        counts = []
        for uri in uris:
            text = self._read(uri)
            if text is None:
                return f"The data at {uri} cannot be read with the role of the job"
            if problems := invalid_records(text, model.format_of(kind)):
                return f"{len(problems)} records of {uri} are invalid. {problems[0]}"
            counts.append(len(split_lines(text)))
        method, rows = model.methods[kind], counts[0]
        if rows < method.min_rows or (method.max_rows is not None and rows > method.max_rows):
            return f"The number of training records, {rows}, is out of range"
        return ""

    def _read(self, uri: str) -> str | None:
        try:
            s3 = EmulatedBucket(self._account.client("s3"))
            return s3.read(S3Uri.parse(uri)).decode()
        except ClientError:
            return None

    def _make_model(self, job: dict[str, Any], request: dict[str, Any], kind: str) -> str:
        account = self._account
        model, _ = self._model(request)
        base = account.foundation_models.get(model.name)
        parameters = request.get("hyperParameters", {})
        arn = account.arn(f"custom-model/{model.base.replace(':', '.')}")
        description = {
            "modelArn": arn,
            "modelName": request["customModelName"],
            "jobName": request["jobName"],
            "jobArn": job["jobArn"],
            "baseModelArn": job["baseModelArn"].removesuffix(model.base.removeprefix(model.name)),
            "customizationType": request.get("customizationType", "FINE_TUNING"),
            "hyperParameters": parameters,
            "creationTime": account.now(),
            "modelStatus": "Active",
        }
        losses = "step_number,epoch_number,training_loss\n"
        if base is not None and kind == "sft":
            work = CustomizationWork(
                base=base,
                records=self._read(request["trainingDataConfig"]["s3Uri"]) or "",
                kind=model.format_of(kind),
                home=account.folder("customization", arn),
                epochs=float(parameters.get("epochCount", 2)),
                learning_rate=float(parameters.get("learningRate", 1e-5)),
            )
            try:
                trained = self.train(work)
            except TrainingFailedError as error:
                return f"Training failed: {error}"
            folder = self._models.folder(description)
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(trained.resolve())
            losses += _losses(trained.parent / "metrics.jsonl")
        self._models.models.add(description, request.get("customModelTags", ()))
        job["outputModelArn"] = arn
        job["trainingMetrics"] = {"trainingLoss": _last_loss(losses)}
        name = job["jobArn"].rpartition("/")[2]
        output = S3Uri.parse(request["outputDataConfig"]["s3Uri"].rstrip("/"))
        path = f"model-customization-job-{name}/training_artifacts/step_wise_training_metrics.csv"
        EmulatedBucket(account.client("s3")).write(losses.encode(), output / path, None)
        return ""

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a job (GetModelCustomizationJob)."""
        return self.jobs.get(request["jobIdentifier"])

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return jobs (ListModelCustomizationJobs)."""
        found, more = self.jobs.page(request, "creationTime", statusEquals="status")
        summaries = [
            {
                **{key: job[key] for key in _SUMMARY if key in job},
                **(
                    {
                        "customModelArn": job["outputModelArn"],
                        "customModelName": job["outputModelName"],
                    }
                    if "outputModelArn" in job
                    else {}
                ),
            }
            for job in found
        ]
        return {"modelCustomizationJobSummaries": summaries, **more}

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop a job (StopModelCustomizationJob)."""
        self.jobs.stop(self.get(request))
        return {}


def _check_parameters(request: Mapping[str, Any], method: ManagedMethod, kind: str) -> None:
    """Reject hyperparameters that the model does not have, or outside of their ranges."""
    config = request.get("customizationConfig", {})
    if kind == "grpo":
        rft = config.get("rftConfig", {})
        if not rft.get("graderConfig", {}).get("lambdaGrader"):
            reject("A grader is required for reinforcement fine-tuning")
        given = rft.get("hyperParameters", {})
    else:
        given = request.get("hyperParameters", {})
    if kind == "distill_text" and "distillationConfig" not in config:
        reject("A teacher is required for distillation")
    known = {parameter.name: parameter for parameter in method.keys.values()}
    for name, value in given.items():
        parameter = known.get(name)
        if parameter is None:
            reject(f"The hyperparameter {name} is not supported by the model")
        number = float(value)
        if parameter.type == "integer" and str(value) != str(int(number)):
            reject(f"The hyperparameter {name} must be an integer, not {value}")
        low, high = parameter.min, parameter.max
        if (low is not None and number < low) or (high is not None and number > high):
            reject(f"The hyperparameter {name} must be between {low} and {high}, not {value}")


def _losses(metrics: Path) -> str:
    """Return a run's losses as lines of Bedrock's table."""
    lines = []
    if metrics.is_file():
        for line in metrics.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "loss" in row and "step" in row:
                lines.append(f"{row['step']},{row.get('epoch', 0)},{row['loss']}\n")
    return "".join(lines)


def _last_loss(table: str) -> float:
    last = table.splitlines()[-1].rpartition(",")[2]
    try:
        return float(last)
    except ValueError:
        return 0.0
