"""Objects of deployments on HyperPod pass the models of AWS's own package for them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from deployment.account import DeploymentAccount
from deployment.hyperpod.manifest import inference_endpoint
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession
from tests.installed_packages import installed_packages
from tests.unit.deployment.test_hyperpod import IMAGE, request
from tests.unit.launch.fake_accounts import DEV, VALUES

PACKAGE = "sagemaker-hyperpod==3.12.0"
REQUESTS: dict[str, dict[str, Any]] = {
    "one copy": {},
    "shared node": {"devices": 1, "copies": 3, "settings": {"MAX_CONTEXT": "4096"}},
    "scaled": {"scaling": {"min": 0, "max": 4, "concurrent_requests": 8}},
    "processors": {"instance": "ml.c5.4xlarge"},
}


@pytest.fixture(scope="module")
def models() -> Any:
    """Module of the package with the models of the objects; it imports pydantic alone."""
    path = installed_packages(PACKAGE) / "sagemaker/hyperpod/inference/config/hp_endpoint_config.py"
    return load(path)


def load(path: Path) -> Any:
    """Return the module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def body(values: dict[str, Any]) -> dict[str, Any]:
    """Return the `spec` of the object of a deployment."""
    platform = {**VALUES, "images/serve-gpu/uri": IMAGE, "images/serve/uri": IMAGE}
    session = AwsSession(DEV)
    account = DeploymentAccount(session, PlatformParameters(DEV, platform), "arn:x/anna")
    item = inference_endpoint(account, request(**values), "hyperpod-ns-research")
    spec: dict[str, Any] = item["spec"]
    return spec


@pytest.mark.slow
@pytest.mark.parametrize("values", REQUESTS.values(), ids=REQUESTS)
def test_every_field_is_known_and_valid(models: Any, values: dict[str, Any]) -> None:
    """Nothing is ignored: what the models read is what they were given."""
    ours = body(values)
    known: BaseModel = models._HPEndpoint.model_validate(ours)
    assert known.model_dump(exclude_unset=True) == ours


@pytest.mark.slow
def test_the_models_refuse_what_an_object_must_not_have(models: Any) -> None:
    wrong = body({})
    wrong["worker"]["probes"]["startupProbe"]["seconds"] = 3
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        models._HPEndpoint.model_validate(wrong)
