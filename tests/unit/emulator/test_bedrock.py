"""Emulated Bedrock's control plane: states in time, names, tokens, tags, and rejections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.bedrock_account import BedrockTimings
from emulator.clock import FakeClock
from tests.unit.emulator.bedrock import (
    ADDRESS,
    BUCKET,
    EmulatedBedrock,
    emulated_bedrock,
    make_importable_model,
    make_role,
    upload,
)

TIMINGS = BedrockTimings(import_s=600, create_s=300, update_s=100, batch_s=0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_800_000_000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_importable_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def here(clock: FakeClock, model: Path, tmp_path: Path) -> Iterator[EmulatedBedrock]:
    with emulated_bedrock(clock, tmp_path, TIMINGS) as running:
        upload(running.s3, model)
        yield running


def refused(call: Any, *arguments: Any, **parameters: Any) -> tuple[str, str]:
    """Return code and message of the rejection of a call."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_an_import_ends_with_a_model_that_says_how_it_is_called(
    here: EmulatedBedrock, clock: FakeClock
) -> None:
    job = here.import_model(importedModelTags=[{"key": "temper:deployment", "value": "support"}])
    assert here.bedrock.get_model_import_job(jobIdentifier=job)["status"] == "InProgress"
    code, _ = refused(here.bedrock.get_imported_model, modelIdentifier="support")
    assert code == "ResourceNotFoundException"
    clock.advance(600)
    ended = here.bedrock.get_model_import_job(jobIdentifier="support-1")
    assert (ended["status"], ended["jobArn"]) == ("Completed", job)
    model = here.bedrock.get_imported_model(modelIdentifier="support")
    assert model["modelArn"] == ended["importedModelArn"]
    assert (model["modelArchitecture"], model["instructSupported"]) == ("llama", True)
    assert model["customModelUnits"]["customModelUnitsPerModelCopy"] >= 1
    tags = here.bedrock.list_tags_for_resource(resourceARN=model["modelArn"])["tags"]
    assert tags == [{"key": "temper:deployment", "value": "support"}]
    listed = here.bedrock.list_imported_models(nameContains="sup")["modelSummaries"]
    assert [one["modelArn"] for one in listed] == [model["modelArn"]]


def test_names_stay_taken_and_a_token_starts_nothing_twice(
    here: EmulatedBedrock, clock: FakeClock
) -> None:
    job = here.import_model(clientRequestToken="one")
    assert here.import_model(clientRequestToken="one") == job
    assert refused(here.import_model)[0] == "ConflictException"
    again = {"jobName": "support-2"}
    assert refused(here.import_model, **again)[0] == "ConflictException", "while it is imported"
    clock.advance(600)
    assert refused(here.import_model, **again)[0] == "ConflictException"
    here.bedrock.delete_imported_model(modelIdentifier="support")
    assert refused(here.import_model)[0] == "ConflictException", "a job's name is never free again"
    here.import_model(**again)


def test_a_model_that_breaks_the_rules_fails_the_job(
    here: EmulatedBedrock, clock: FakeClock
) -> None:
    here.s3.delete_object(Bucket=BUCKET, Key="registry/llama/tokenizer.json")
    here.import_model()
    nothing = {"s3DataSource": {"s3Uri": f"s3://{BUCKET}/nothing/"}}
    here.import_model("empty", modelDataSource=nothing)
    here.service.faults.failed_imports.append("Access denied when reading the model")
    clock.advance(600)
    jobs = here.bedrock.list_model_import_jobs(sortOrder="Ascending")["modelImportJobSummaries"]
    assert [job["status"] for job in jobs] == ["Failed", "Failed"]
    messages = [
        here.bedrock.get_model_import_job(jobIdentifier=job["jobArn"])["failureMessage"]
        for job in jobs
    ]
    assert messages[0] == "Access denied when reading the model"
    assert messages[1] == f"There are no files at s3://{BUCKET}/nothing/"
    here.import_model("second")
    clock.advance(600)
    ended = here.bedrock.get_model_import_job(jobIdentifier="second-1")
    assert ended["failureMessage"].startswith("there is no tokenizer.json in ")


def test_a_role_must_trust_bedrock_and_a_request_the_description(here: EmulatedBedrock) -> None:
    other = make_role(here.account("iam"), "lambda.amazonaws.com")
    code, message = refused(here.import_model, roleArn=other)
    assert (code, "does not trust bedrock" in message) == ("ValidationException", True)
    code, message = refused(here.import_model, importedModelName="not a name")
    assert (code, "importedModelName" in message) == ("ValidationException", True)
    assert not here.bedrock.list_model_import_jobs()["modelImportJobSummaries"]


def test_only_models_from_nova_become_custom_models(
    here: EmulatedBedrock, clock: FakeClock
) -> None:
    trained = here.custom_model("ours", here.package())
    other = here.custom_model("other", here.package("huggingface-llm-qwen3-4b"))
    assert refused(here.custom_model, "ours", here.package("nova-textgeneration-pro"))[0] == (
        "ConflictException"
    )
    code, _ = refused(here.bedrock.delete_custom_model, modelIdentifier="ours")
    assert code == "ConflictException", "it is being created"
    code, message = refused(
        here.bedrock.create_custom_model_deployment, modelDeploymentName="d", modelArn=trained
    )
    assert "is Creating, not Active" in message
    clock.advance(300)
    found = here.bedrock.get_custom_model(modelIdentifier=trained)
    assert (found["modelStatus"], found["baseModelArn"].rpartition("/")[2]) == (
        "Active",
        "amazon.nova-lite-v1:0",
    )
    assert here.bedrock.get_custom_model(modelIdentifier=other)["modelStatus"] == "Failed"
    (listed,) = here.bedrock.list_custom_models()["modelSummaries"]
    assert (listed["modelName"], listed["baseModelName"]) == ("ours", "amazon.nova-lite-v1")


@pytest.fixture
def models(here: EmulatedBedrock, clock: FakeClock) -> list[str]:
    """Return the ARNs of two custom models of Nova Lite, and of one of Nova Pro."""
    lite, pro = here.package(), here.package("nova-textgeneration-pro")
    made = [here.custom_model(f"model-{i}", source) for i, source in enumerate((lite, lite, pro))]
    clock.advance(300)
    return made


def test_an_on_demand_deployment_changes_its_model_behind_one_arn(
    here: EmulatedBedrock, clock: FakeClock, models: list[str]
) -> None:
    arn = here.bedrock.create_custom_model_deployment(
        modelDeploymentName="support", modelArn=models[0]
    )["customModelDeploymentArn"]
    which = {"customModelDeploymentIdentifier": arn}
    code, _ = refused(here.bedrock.delete_custom_model_deployment, **which)
    assert code == "ConflictException", "deletion while it is created"
    clock.advance(300)
    here.bedrock.update_custom_model_deployment(modelArn=models[1], **which)
    updating = here.bedrock.get_custom_model_deployment(**which)
    assert updating["updateDetails"] == {"modelArn": models[1], "updateStatus": "Updating"}
    assert updating["modelArn"] == models[0]
    code, _ = refused(here.bedrock.delete_custom_model_deployment, **which)
    assert code == "ConflictException", "deletion while it is updated"
    clock.advance(100)
    assert here.bedrock.get_custom_model_deployment(**which)["modelArn"] == models[1]
    here.service.faults.failed_updates = 1
    here.bedrock.update_custom_model_deployment(modelArn=models[0], **which)
    clock.advance(100)
    failed = here.bedrock.get_custom_model_deployment(**which)
    assert (failed["status"], failed["modelArn"]) == ("Active", models[1])
    assert failed["updateDetails"]["updateStatus"] == "UpdateFailed"
    code, _ = refused(here.bedrock.delete_custom_model, modelIdentifier=models[1])
    assert code == "ConflictException", "a deployment serves it"
    here.bedrock.delete_custom_model_deployment(**which)
    here.bedrock.delete_custom_model(modelIdentifier=models[1])


def provision(here: EmulatedBedrock, model: str, **more: Any) -> str:
    answer = here.bedrock.create_provisioned_model_throughput(
        provisionedModelName="support", modelId=model, modelUnits=1, **more
    )
    return str(answer["provisionedModelArn"])


def test_throughput_takes_another_model_of_the_same_base(
    here: EmulatedBedrock, clock: FakeClock, models: list[str]
) -> None:
    here.service.faults.model_units = 1
    arn = provision(here, models[0])
    code, message = refused(
        here.bedrock.create_provisioned_model_throughput,
        provisionedModelName="second",
        modelId=models[0],
        modelUnits=1,
    )
    assert (code, "has 0" in message) == ("ServiceQuotaExceededException", True)
    which = {"provisionedModelId": arn}
    assert refused(here.bedrock.delete_provisioned_model_throughput, **which)[0] == (
        "ConflictException"
    )
    clock.advance(300)
    change = here.bedrock.update_provisioned_model_throughput
    assert "same base" in refused(change, desiredModelId=models[2], **which)[1]
    change(desiredModelId=models[1], **which)
    found = here.bedrock.get_provisioned_model_throughput(**which)
    assert (found["status"], found["modelArn"], found["desiredModelArn"]) == (
        "Updating",
        *models[:2],
    )
    assert refused(change, desiredModelId=models[0], **which)[0] == "ValidationException"
    clock.advance(100)
    found = here.bedrock.get_provisioned_model_throughput(**which)
    assert (found["status"], found["modelArn"]) == ("InService", models[1])
    here.service.faults.failed_updates = 1
    change(desiredModelId=models[0], **which)
    clock.advance(100)
    assert here.bedrock.get_provisioned_model_throughput(**which)["modelArn"] == models[1]
    here.bedrock.delete_provisioned_model_throughput(**which)
    provision(here, models[0])


def test_a_commitment_is_kept_to_its_end(
    here: EmulatedBedrock, clock: FakeClock, models: list[str]
) -> None:
    arn = provision(here, models[0], commitmentDuration="OneMonth")
    clock.advance(29 * 86400)
    code, message = refused(
        here.bedrock.delete_provisioned_model_throughput, provisionedModelId=arn
    )
    assert (code, "commitment" in message) == ("ValidationException", True)
    clock.advance(86400)
    here.bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)


def test_an_imported_model_has_no_provisioned_throughput(
    here: EmulatedBedrock, clock: FakeClock
) -> None:
    here.import_model()
    clock.advance(600)
    arn = here.bedrock.get_imported_model(modelIdentifier="support")["modelArn"]
    for model in (arn, "support"):
        assert refused(provision, here, model)[0] == "ValidationException"


def test_a_license_that_was_not_accepted_denies_access(
    here: EmulatedBedrock, models: list[str]
) -> None:
    here.service.faults.without_agreement.add("amazon.nova-lite-v1:0")
    assert refused(provision, here, models[0])[0] == "AccessDeniedException"
    here.service.faults.without_agreement.clear()
    here.service.control.errors.plant("CreateProvisionedModelThroughput", "ThrottlingException")
    assert refused(provision, here, models[0])[0] == "ThrottlingException"
    provision(here, models[0])


def test_lists_come_in_pages(here: EmulatedBedrock, clock: FakeClock) -> None:
    for index in range(5):
        source = {"s3DataSource": {"s3Uri": ADDRESS}}
        here.import_model(f"model-{index}", modelDataSource=source)
        clock.advance(600)
    pages = here.bedrock.get_paginator("list_imported_models").paginate(
        PaginationConfig={"PageSize": 2}
    )
    names = [[one["modelName"] for one in page["modelSummaries"]] for page in pages]
    assert names == [["model-4", "model-3"], ["model-2", "model-1"], ["model-0"]]
