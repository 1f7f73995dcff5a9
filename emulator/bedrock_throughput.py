"""Emulated provisioned throughput of Bedrock: creation, change of its model, commitment, deletion.

https://docs.aws.amazon.com/bedrock/latest/userguide/prov-thru-purchase.html: the model behind a
throughput can be replaced by its base, or by another custom model of that base.
https://docs.aws.amazon.com/bedrock/latest/userguide/prov-thru-delete.html: a throughput with a
commitment cannot be deleted before the end of its term.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from catalog.bedrock_custom_models import COMMITMENT_DAYS
from emulator.bedrock_account import BedrockAccount, BedrockResources, arn_kind, reject_conflict
from emulator.bedrock_custom_models import CustomModelApi
from emulator.request_validation import RequestRejected, reject

_SUMMARY = (
    *("provisionedModelName", "provisionedModelArn", "modelArn", "desiredModelArn"),
    *("foundationModelArn", "modelUnits", "desiredModelUnits", "status", "commitmentDuration"),
    *("commitmentExpirationTime", "creationTime", "lastModifiedTime"),
)


class ThroughputApi:
    """Provisioned throughput.

    Args:
        account: The account.
        custom_models: Its custom models.
    """

    def __init__(self, account: BedrockAccount, custom_models: CustomModelApi):
        self._account, self._models = account, custom_models
        self.throughputs = BedrockResources(account, "provisionedModelArn", "provisionedModelName")
        custom_models.users.append(self.throughputs.all)

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Provision throughput (CreateProvisionedModelThroughput).

        Raises:
            RequestRejected: The name is in use, the model is not active or not licensed, or the
                account has not so many model units.
        """
        account = self._account

        def create(arn: str) -> None:
            name, units = request["provisionedModelName"], request["modelUnits"]
            if self.throughputs.find(name):
                reject(f"A provisioned throughput named {name} already exists")
            model, base = self._resolve(request["modelId"])
            self._take_units(units)
            now = account.now()
            commitment = request.get("commitmentDuration")
            term = {}
            if commitment:
                end = now + timedelta(days=COMMITMENT_DAYS[commitment])
                term = {"commitmentDuration": commitment, "commitmentExpirationTime": end}
            self.throughputs.add(
                {
                    "provisionedModelArn": arn,
                    "provisionedModelName": name,
                    "modelArn": model,
                    "desiredModelArn": model,
                    "foundationModelArn": base,
                    "modelUnits": units,
                    "desiredModelUnits": units,
                    "status": "Creating",
                    "creationTime": now,
                    "lastModifiedTime": now,
                    **term,
                },
                request.get("tags", ()),
            )

        def start(arn: str) -> None:
            throughput = self.throughputs.get(arn)
            account.clock.call_later(account.timings.create_s, lambda: self._finish(throughput))

        return {
            "provisionedModelArn": account.create_once(request, "provisioned-model", create, start)
        }

    def _take_units(self, units: int) -> None:
        faults = self._account.faults
        if faults.model_units is None:
            return
        if units > faults.model_units:
            raise RequestRejected(
                "ServiceQuotaExceededException",
                f"The request needs {units} model units, and the account has {faults.model_units}",
            )
        faults.model_units -= units

    def _resolve(self, identifier: str) -> tuple[str, str]:
        """Return the ARNs of a model and of its foundation model.

        Raises:
            RequestRejected: The model does not exist, or cannot be provisioned.
        """
        prefix = f"arn:aws:bedrock:{self._account.region}::foundation-model/"
        name = identifier.removeprefix(prefix)
        if arn_kind(identifier) == "custom-model" or self._models.models.find(identifier):
            model = self._models.require_active(identifier)
            base = str(model["baseModelArn"])
            self._account.check_agreement(base.removeprefix(prefix))
            return str(model["modelArn"]), base
        self._account.check_agreement(name)
        if name not in self._account.foundation_models:
            reject("The provided model identifier is invalid.")
        return prefix + name, prefix + name

    def _finish(self, throughput: dict[str, Any]) -> None:
        failure = self._account.next_failed_creation()
        throughput["status"] = "Failed" if failure else "InService"
        throughput["lastModifiedTime"] = self._account.now()
        if failure:
            throughput["failureMessage"] = failure

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a throughput (GetProvisionedModelThroughput)."""
        return self.throughputs.get(request["provisionedModelId"])

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return throughputs (ListProvisionedModelThroughputs)."""
        found, more = self.throughputs.page(
            request, "creationTime", statusEquals="status", modelArnEquals="modelArn"
        )
        summaries = [{key: one[key] for key in _SUMMARY if key in one} for one in found]
        return {"provisionedModelSummaries": summaries, **more}

    def update(self, request: dict[str, Any]) -> dict[str, Any]:
        """Rename a throughput, or put another model behind it (UpdateProvisionedModelThroughput).

        The former model answers until the update has ended.

        Raises:
            RequestRejected: It is being changed, or the model has another base.
        """
        throughput = self.throughputs.get(request["provisionedModelId"])
        if throughput["status"] != "InService":
            reject(f"The throughput is {throughput['status']}, not InService")
        if name := request.get("desiredProvisionedModelName"):
            if self.throughputs.find(name) not in (None, throughput):
                reject(f"A provisioned throughput named {name} already exists")
            throughput["provisionedModelName"] = name
        if "desiredModelId" not in request:
            return {}
        model, base = self._resolve(request["desiredModelId"])
        if base != throughput["foundationModelArn"]:
            reject("The models of a throughput have the same base model")
        throughput |= {"status": "Updating", "desiredModelArn": model}

        def finish() -> None:
            throughput["status"] = "InService"
            throughput["lastModifiedTime"] = self._account.now()
            if self._account.next_update_fails():
                throughput["desiredModelArn"] = throughput["modelArn"]
            else:
                throughput["modelArn"] = model

        self._account.clock.call_later(self._account.timings.update_s, finish)
        return {}

    def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete a throughput (DeleteProvisionedModelThroughput).

        Raises:
            RequestRejected: It has a commitment, or is being created or changed.
        """
        throughput = self.throughputs.get(request["provisionedModelId"])
        end = throughput.get("commitmentExpirationTime")
        if throughput["status"] in ("Creating", "Updating"):
            reject_conflict(f"The throughput is {throughput['status']}")
        if end is not None and throughput["status"] != "Failed" and self._account.now() < end:
            reject(f"The throughput cannot be deleted before the end of its commitment, {end}")
        self.throughputs.remove(throughput)
        faults = self._account.faults
        if faults.model_units is not None:
            faults.model_units += throughput["modelUnits"]
        return {}
