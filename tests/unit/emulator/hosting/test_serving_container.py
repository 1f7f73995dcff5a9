"""Adapters on a component whose container is our server, in namespaces of their own."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from emulator.instance import NamespaceRuntime
from serving.transformers_model import load_transformers_model
from tests.unit.emulator.conftest import BUCKET, HostedAccount, model_request
from tests.unit.emulator.hosting.test_components import COMPUTE, create, make_endpoint
from tests.unit.serving.conftest import adapter_folders, chat_folder
from tests.unit.serving.running import running_server

__all__ = ["adapter_folders", "chat_folder"]
pytestmark = pytest.mark.slow
BODY = {"prompt": "def add", "max_tokens": 12, "temperature": 0}


def put_model(account: HostedAccount, folder: str) -> str:
    """Upload a model, and return its address."""
    for path in Path(folder).iterdir():
        account.client("s3").upload_file(str(path), BUCKET, f"served/{path.name}")
    return f"s3://{BUCKET}/served/"


def put_adapter(account: HostedAccount, name: str, folder: str, **changes: int) -> str:
    """Upload the archive of an adapter with changes of its configuration; return its address."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in Path(folder).iterdir():
            content = path.read_bytes()
            if path.name == "adapter_config.json":
                content = json.dumps({**json.loads(content), **changes}).encode()
            entry = tarfile.TarInfo(path.name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    account.client("s3").put_object(Bucket=BUCKET, Key=f"{name}.tar.gz", Body=packed.getvalue())
    return f"s3://{BUCKET}/{name}.tar.gz"


def ask(account: HostedAccount, name: str) -> str:
    answer = account.ask(json.dumps(BODY), InferenceComponentName=name)
    text: str = json.loads(answer)["choices"][0]["text"]
    return text


def test_adapters_of_a_component_are_served_by_our_container(
    account: HostedAccount,
    chat_folder: str,
    adapter_folders: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(account.emulator.hosting.context, "runtime", NamespaceRuntime())
    with running_server(load_transformers_model("x", chat_folder, adapter_folders)) as running:
        expected = {
            name: running.complete(**BODY, model=name)["choices"][0]["text"]
            for name in ("x", *adapter_folders)
        }
    make_endpoint(account)
    sagemaker = account.client("sagemaker")
    variables = {"TEMPER_SERVE_MAX_LORA_RANK": "8"}
    sagemaker.create_model(
        **model_request("served", put_model(account, chat_folder), Environment=variables)
    )
    specification = {"ModelName": "served", "ComputeResourceRequirements": COMPUTE}
    create(
        account,
        {
            "InferenceComponentName": "base",
            "EndpointName": "support",
            "VariantName": "main",
            "Specification": specification,
            "RuntimeConfig": {"CopyCount": 1},
        },
    )

    def add(name: str, address: str, status: str) -> str:
        on_base = {
            "BaseInferenceComponentName": "base",
            "Container": {"ArtifactUrl": address},
        }
        request = {"InferenceComponentName": name, "EndpointName": "support"}
        described = create(account, {**request, "Specification": on_base}, status)
        return str(described.get("FailureReason", ""))

    for name, folder in adapter_folders.items():
        add(name, put_adapter(account, name, folder), "InService")
    found = {name: ask(account, name) for name in ("base", *adapter_folders)}
    assert list(found.values()) == list(expected.values())
    wide = put_adapter(account, "wide", adapter_folders["first"], r=16)
    assert "has rank 16, and this server loads ranks up to 8" in add("wide", wide, "Failed")
    sagemaker.update_inference_component(
        InferenceComponentName="first",
        Specification={
            "BaseInferenceComponentName": "base",
            "Container": {"ArtifactUrl": f"s3://{BUCKET}/second.tar.gz"},
        },
    )
    account.component_until("InService", "first")
    assert ask(account, "first") == expected["second"]
    sagemaker.delete_inference_component(InferenceComponentName="second")
    account.advance(60)
    assert ask(account, "base") == expected["x"]
