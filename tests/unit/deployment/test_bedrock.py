"""Deployments to Bedrock: imports, on-demand deployments and provisioned throughput."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployment.errors import DeployModelError, RolledBackError
from deployment.spec import TARGET_KINDS
from deployment.targets.base import connect_target
from deployment.targets.bedrock_import import BedrockImportTarget
from deployment.targets.bedrock_on_demand import BedrockOnDemandTarget
from deployment.targets.bedrock_throughput import BedrockThroughputTarget
from emulator.bedrock_account import BedrockTimings
from emulator.clock import FakeClock
from launch.errors import LaunchError
from tests.unit.deployment.bedrock import BedrockDeployments, bedrock_deployments
from tests.unit.emulator.bedrock import BUCKET, make_importable_model, upload

DAY = 86400.0
TIMINGS = BedrockTimings(import_s=600, create_s=300, update_s=100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_importable_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def deployments(model: Path, tmp_path: Path) -> Iterator[BedrockDeployments]:
    clock = FakeClock(time.time() - 40 * DAY)
    with bedrock_deployments(clock, clock.advance, tmp_path, TIMINGS) as made:
        upload(made.here.s3, model)
        yield made


def texts(problems: Any) -> str:
    return "\n".join(str(problem) for problem in problems)


def test_every_kind_of_bedrock_has_a_module(deployments: BedrockDeployments) -> None:
    kinds = [kind for kind in TARGET_KINDS if kind.startswith("bedrock")]
    assert kinds == ["bedrock-import", "bedrock-on-demand", "bedrock-throughput"]
    for kind in kinds:
        assert connect_target(kind, deployments.account).list() == []


# --- imports ------------------------------------------------------------------------------------


def test_an_import_is_found_by_its_name_with_version_address_and_price(
    deployments: BedrockDeployments,
) -> None:
    target = BedrockImportTarget(deployments.account)
    request = deployments.request("bedrock-import", deployments.model())
    assert texts(target.problems(request)) == ""
    assert "an hour in use" in "\n".join(target.quote(request).lines())
    found = target.deploy(request)
    assert (found.state, found.model, found.to) == ("deployed", "support@1.0.0", "bedrock-import")
    assert ":imported-model/" in found.address
    assert "Converse and InvokeModel answer; 2 units a copy: $6.86 to $9.42" in found.detail
    assert found.tags["temper:owner"] == "anna"
    assert found.end == "never (a test)"
    assert target.list() == [found]
    assert target.deploy(request) == found, "the same command changes nothing"
    assert deployments.calls("CreateModelImportJob") == 1


@pytest.mark.parametrize("pauses", [0, 2])
def test_an_import_that_was_interrupted_is_continued(
    deployments: BedrockDeployments, pauses: int
) -> None:
    request = deployments.request("bedrock-import", deployments.model())
    with pytest.raises(KeyboardInterrupt):
        BedrockImportTarget(deployments.killed_after(pauses)).deploy(request)
    target = BedrockImportTarget(deployments.account)
    begun = target.find("support")
    assert begun is not None
    assert (begun.state, begun.model) == ("deploying", "support@1.0.0")
    assert target.deploy(request).state == "deployed"
    assert deployments.calls("CreateModelImportJob") == 1


def test_a_lost_reply_imports_once(deployments: BedrockDeployments) -> None:
    request = deployments.request("bedrock-import", deployments.model())
    target = BedrockImportTarget(deployments.account)
    deployments.here.service.control.errors.lose_replies("CreateModelImportJob")
    with pytest.raises(LaunchError, match="could not be reached"):
        target.deploy(request)
    target.deploy(request)
    assert len(deployments.here.bedrock.list_imported_models()["modelSummaries"]) == 1


def test_a_failed_import_says_why_and_is_repeated_under_another_name(
    deployments: BedrockDeployments,
) -> None:
    request = deployments.request("bedrock-import", deployments.model())
    target = BedrockImportTarget(deployments.account)
    deployments.here.service.faults.failed_imports.append("Amazon S3 denied access")
    with pytest.raises(DeployModelError, match="-1-0-0-1 failed: Amazon S3 denied access"):
        target.deploy(request)
    assert target.find("support") is None
    assert target.deploy(request).state == "deployed"
    target.undeploy("support")
    target.undeploy("support")
    assert target.deploy(request).state == "deployed", "the names of both jobs are in use"


def test_what_bedrock_would_refuse_is_found_in_s3(deployments: BedrockDeployments) -> None:
    target = BedrockImportTarget(deployments.account)
    weights = deployments.here.s3.get_object(Bucket=BUCKET, Key="registry/llama/model.safetensors")
    cut = weights["Body"].read()[:-10]
    deployments.here.s3.put_object(Bucket=BUCKET, Key="registry/llama/model.safetensors", Body=cut)
    deployments.here.s3.put_object(
        Bucket=BUCKET, Key="registry/llama/config.json", Body=b'{"model_type": "gemma3"}'
    )
    request = deployments.request(
        "bedrock-import", deployments.model(), instance="ml.g5.xlarge", end={"idle_hours": 6}
    )
    found = texts(target.problems(request))
    assert "the architecture 'gemma3' is not imported" in found
    assert "model.safetensors is cut off" in found
    assert "has no effect on a deployment to bedrock-import" in found
    assert "--forever" in found
    assert deployments.calls("CreateModelImportJob") == 0


def test_a_swap_imports_beside_and_keeps_the_version_before(
    deployments: BedrockDeployments,
) -> None:
    target = BedrockImportTarget(deployments.account)
    first = target.deploy(deployments.request("bedrock-import", deployments.model()))
    asked = []
    second = deployments.request("bedrock-import", deployments.model("1.1.0"))
    second = type(second)(second.spec, second.model, second.owner, lambda: asked.append(1))
    found = target.swap(second)
    assert (found.model, asked) == ("support@1.1.0", [1])
    assert found.address != first.address
    assert "support@1.0.0 is still imported" in found.detail
    third = target.swap(deployments.request("bedrock-import", deployments.model("1.2.0")))
    assert "support@1.1.0 is still imported" in third.detail
    assert len(deployments.here.bedrock.list_imported_models()["modelSummaries"]) == 2
    back = target.swap(deployments.request("bedrock-import", deployments.model("1.1.0")))
    assert (back.model, back.address) == ("support@1.1.0", found.address)
    assert deployments.calls("CreateModelImportJob") == 3


def test_a_swap_whose_answers_differ_leaves_the_version_before(
    deployments: BedrockDeployments,
) -> None:
    target = BedrockImportTarget(deployments.account)
    first = target.deploy(deployments.request("bedrock-import", deployments.model()))

    def fail() -> None:
        serving = target.find("support")
        assert serving is not None
        assert serving.model == "support@1.1.0", "the new one is asked"
        raise DeployModelError("1 of 1 differ")

    second = deployments.request("bedrock-import", deployments.model("1.1.0"))
    with pytest.raises(RolledBackError, match=r"differ. support@1.0.0 serves"):
        target.swap(type(second)(second.spec, second.model, second.owner, fail))
    found = target.find("support")
    assert found is not None
    assert (found.model, found.address) == ("support@1.0.0", first.address)
    assert len(deployments.here.bedrock.list_imported_models()["modelSummaries"]) == 1


def test_undeploy_waits_for_an_import_and_leaves_other_deployments(
    deployments: BedrockDeployments,
) -> None:
    target = BedrockImportTarget(deployments.account)
    target.deploy(deployments.request("bedrock-import", deployments.model(), name="other"))
    deployments.here.import_model("foreign")
    request = deployments.request("bedrock-import", deployments.model())
    with pytest.raises(KeyboardInterrupt):
        BedrockImportTarget(deployments.killed_after(1)).deploy(request)
    target.undeploy("support")
    names = [
        m["modelName"] for m in deployments.here.bedrock.list_imported_models()["modelSummaries"]
    ]
    assert sorted(names) == ["foreign", "temper-dev-other-1-0-0"]


# --- custom models ------------------------------------------------------------------------------


def nova(deployments: BedrockDeployments, version: str = "1.0.0", base: str = "lite") -> Any:
    """Return a version that SageMaker trained from Amazon Nova."""
    package = deployments.here.package(f"nova-textgeneration-{base}")
    return deployments.model(version, package=package, form="adapter")


def custom_models(deployments: BedrockDeployments) -> list[str]:
    models = deployments.here.bedrock.list_custom_models()["modelSummaries"]
    return [model["modelName"] for model in models]


@pytest.mark.parametrize(
    ("kind", "target_class"),
    [
        ("bedrock-on-demand", BedrockOnDemandTarget),
        ("bedrock-throughput", BedrockThroughputTarget),
    ],
)
class TestCustomModels:
    """Both ways to serve a custom model, of which both keep their ARN."""

    def test_a_version_is_deployed_swapped_and_removed(
        self, deployments: BedrockDeployments, kind: str, target_class: Any
    ) -> None:
        target = target_class(deployments.account)
        request = deployments.request(kind, nova(deployments))
        assert texts(target.problems(request)) == ""
        first = target.deploy(request)
        assert (first.state, first.model, first.to) == ("deployed", "support@1.0.0", kind)
        assert target.deploy(request) == first
        second = target.swap(deployments.request(kind, nova(deployments, "1.1.0")))
        assert (second.model, second.address) == ("support@1.1.0", first.address)
        assert custom_models(deployments) == ["temper-dev-support-1-1-0"]
        assert target.list() == [second]
        target.undeploy("support")
        target.undeploy("support")
        assert target.find("support") is None
        assert custom_models(deployments) == []

    @pytest.mark.parametrize("pauses", [0, 8])
    def test_the_same_command_continues_after_a_kill(
        self, deployments: BedrockDeployments, kind: str, target_class: Any, pauses: int
    ) -> None:
        request = deployments.request(kind, nova(deployments))
        with pytest.raises(KeyboardInterrupt):
            target_class(deployments.killed_after(pauses)).deploy(request)
        assert target_class(deployments.account).deploy(request).state == "deployed"
        creations = ("CreateCustomModelDeployment", "CreateProvisionedModelThroughput")
        assert sum(deployments.calls(operation) for operation in creations) == 1
        assert deployments.calls("CreateCustomModel") == 1

    def test_an_update_that_bedrock_takes_back_is_no_success(
        self, deployments: BedrockDeployments, kind: str, target_class: Any
    ) -> None:
        target = target_class(deployments.account)
        target.deploy(deployments.request(kind, nova(deployments)))
        deployments.here.service.faults.failed_updates = 1
        request = deployments.request(kind, nova(deployments, "1.1.0"))
        with pytest.raises(RolledBackError, match=r"support@1.0.0 serves"):
            target.swap(request)
        found = target.find("support")
        assert (found.model, custom_models(deployments)) == (
            "support@1.0.0",
            ["temper-dev-support-1-0-0"],
        )
        assert target.swap(request).model == "support@1.1.0"

    def test_a_failure_says_why_and_the_same_command_tries_again(
        self, deployments: BedrockDeployments, kind: str, target_class: Any
    ) -> None:
        target = target_class(deployments.account)
        request = deployments.request(kind, nova(deployments))
        deployments.here.service.faults.failed_creations += ["no artifacts"]
        with pytest.raises(DeployModelError, match="failed: no artifacts"):
            target.deploy(request)
        assert target.deploy(request).state == "deployed"
        target.undeploy("support")
        with pytest.raises(KeyboardInterrupt):  # the custom model is created, then the service
            target_class(deployments.killed_after(9)).deploy(request)
        deployments.here.service.faults.failed_creations += ["no capacity"]
        with pytest.raises(DeployModelError, match="failed: no capacity"):
            target.deploy(request)
        assert target.deploy(request).state == "deployed"

    def test_an_open_model_is_refused_before_anything_is_made(
        self, deployments: BedrockDeployments, kind: str, target_class: Any
    ) -> None:
        package = deployments.here.package("huggingface-llm-qwen3-4b")
        request = deployments.request(kind, deployments.model(package=package))
        found = texts(target_class(deployments.account).problems(request))
        assert "trained from Amazon Nova" in found
        assert "--to bedrock-import" in found
        assert deployments.calls("CreateCustomModel") == 0

    def test_it_is_removed_while_it_is_created(
        self, deployments: BedrockDeployments, kind: str, target_class: Any
    ) -> None:
        request = deployments.request(kind, nova(deployments))
        for pauses in (2, 9):
            with pytest.raises(KeyboardInterrupt):
                target_class(deployments.killed_after(pauses)).deploy(request)
            target_class(deployments.account).undeploy("support")
            assert custom_models(deployments) == []


def test_throughput_without_a_commitment_is_what_is_bought_unasked(
    deployments: BedrockDeployments,
) -> None:
    target = BedrockThroughputTarget(deployments.account)
    request = deployments.request("bedrock-throughput", nova(deployments))
    assert "price unknown" in "\n".join(target.quote(request).lines())
    target.deploy(request)
    (bought,) = deployments.here.bedrock.list_provisioned_model_throughputs()[
        "provisionedModelSummaries"
    ]
    assert (bought["modelUnits"], "commitmentDuration" in bought) == (1, False)
    tags = deployments.here.bedrock.list_tags_for_resource(
        resourceARN=bought["provisionedModelArn"]
    )["tags"]
    assert {"key": "TemperPrefix", "value": "temper-dev"} in tags


def test_a_commitment_shows_its_sum_and_is_not_deleted_early(
    deployments: BedrockDeployments,
) -> None:
    target = BedrockThroughputTarget(deployments.account)
    units = {"units": 2, "unit_usd": 10.0, "commitment": "OneMonth"}
    request = deployments.request("bedrock-throughput", nova(deployments), throughput=units)
    shown = "\n".join(target.quote(request).lines())
    assert "COMMITMENT: 30 days, $14,400 in total" in shown
    assert "removed after its commitment" in shown
    deployments.clock.advance(35 * DAY)
    found = target.deploy(request)
    assert found.detail.startswith("2 model units; committed until 20")
    with pytest.raises(DeployModelError, match=r"is paid until then, another \$1[12],\d{3}"):
        target.undeploy("support")
    assert target.find("support") == found
    assert custom_models(deployments), "what is committed keeps its model"


def test_a_commitment_that_has_ended_is_removed(deployments: BedrockDeployments) -> None:
    target = BedrockThroughputTarget(deployments.account)
    units = {"unit_usd": 10.0, "commitment": "OneMonth"}
    target.deploy(deployments.request("bedrock-throughput", nova(deployments), throughput=units))
    deployments.clock.advance(31 * DAY)
    target.undeploy("support")
    assert target.find("support") is None


def test_a_model_of_another_base_is_refused_for_a_throughput(
    deployments: BedrockDeployments,
) -> None:
    target = BedrockThroughputTarget(deployments.account)
    target.deploy(deployments.request("bedrock-throughput", nova(deployments)))
    other = deployments.request("bedrock-throughput", nova(deployments, "2.0.0", "pro"))
    assert "takes models of amazon.nova-lite-v1:0 alone" in texts(target.problems(other))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", "not allowed"),
        ("ServiceQuotaExceededException", "ServiceQuotaExceeded"),
    ],
)
def test_what_bedrock_denies_is_one_message(
    deployments: BedrockDeployments, code: str, words: str
) -> None:
    target = BedrockThroughputTarget(deployments.account)
    request = deployments.request("bedrock-throughput", nova(deployments))
    errors = deployments.here.service.control.errors
    errors.plant("CreateProvisionedModelThroughput", code)
    with pytest.raises(LaunchError, match=words):
        target.deploy(request)
    assert target.deploy(request).state == "deployed"
