"""The images that serve, built by the make target, keep SageMaker's contract.

`make image-test`. The base is made here and has no vLLM.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from serving.load import load_served_model
from tests.containers.engine import Container, Engine
from tests.containers.image_layout import free_port
from tests.containers.images import image_test
from tests.unit.serving.conftest import adapter_folders, chat_folder
from tests.unit.serving.running import running_server
from training.export.formats import gguf

__all__ = ["adapter_folders", "chat_folder"]
pytestmark = image_test

IMAGE = "localhost/temper-serve:test"
TEXT = {"prompt": "def add", "max_tokens": 12, "temperature": 0}
CHAT = {
    "messages": [{"role": "user", "content": "What is int?"}],
    "max_tokens": 12,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    engine.build("serve", IMAGE)
    return IMAGE


@contextmanager
def served(
    engine: Engine, image: str, root: Path, name: str
) -> Iterator[tuple[httpx2.Client, Container]]:
    """Run a container of an endpoint until the end of the block, and yield a client of it."""
    port = free_port()
    running = engine.started(
        image,
        root,
        name=name,
        options=("--network", "host"),
        environment={"SAGEMAKER_BIND_TO_PORT": str(port)},
        command="serve",
    )
    address = f"http://127.0.0.1:{port}"
    with running as container, httpx2.Client(base_url=address, trust_env=False) as client:
        until = time.monotonic() + 240
        while not answers(client):
            assert container.running and time.monotonic() < until, container.log
            time.sleep(0.1)
        yield client, container


def answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/ping").status_code == 200
    except httpx2.TransportError:
        return False


def invoke(client: httpx2.Client, body: dict[str, Any], **headers: str) -> str:
    response = client.post("/invocations", json=body, headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return str(choice["message"]["content"] if "messages" in body else choice["text"])


def test_a_gguf_file_is_served_by_llama_cpp_until_the_container_is_stopped(
    engine: Engine, image: str, chat_folder: str, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "model/model.gguf"
    gguf(Path(chat_folder), file)
    with running_server(load_served_model("here", str(file), {})) as here:
        expected = [invoke(here.client, body) for body in (TEXT, CHAT)]
    with served(engine, image, tmp_path, "temper-gguf") as (client, container):
        assert [invoke(client, body) for body in (TEXT, CHAT)] == expected
        assert "vllm:num_requests_running" in client.get("/metrics").text
        assert "forward passes of llama.cpp" in container.log
        container.send("TERM")
        assert container.finish() == 0, container.log
        assert "Traceback" not in container.log
    bill = engine.call("run", "--rm", "--entrypoint", "cat", image, "/opt/temper/sbom.json")
    parts = {part["name"] for part in json.loads(bill)["components"]}
    assert {"transformers", "xllamacpp", "uvicorn"} <= parts
    assert not {"trl", "datasets", "matplotlib", "mlflow-skinny"} & parts, "nothing that trains"


def test_safetensors_are_served_with_adapters_that_come_later(
    engine: Engine, image: str, chat_folder: str, adapter_folders: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(chat_folder, tmp_path / "model")
    shutil.copytree(adapter_folders["first"], tmp_path / "adapters/first")
    with running_server(load_served_model("here", chat_folder, adapter_folders)) as here:
        expected = [invoke(here.client, CHAT), invoke(here.client, {**CHAT, "model": "first"})]
    with served(engine, image, tmp_path, "temper-adapters") as (client, _):
        body = {"name": "first", "src": "/opt/ml/adapters/first"}
        assert client.post("/adapters", json=body, timeout=60).status_code == 200
        header = {"X-Amzn-SageMaker-Adapter-Identifier": "first"}
        assert [invoke(client, CHAT), invoke(client, CHAT, **header)] == expected


@pytest.mark.parametrize("kind", ["serve-gpu", "serve-neuron"])
def test_an_image_on_a_base_without_vllm_says_so(
    engine: Engine, chat_folder: str, tmp_path: Path, kind: str
) -> None:
    image = f"localhost/temper-{kind}:test"
    engine.build(kind, image)
    shutil.copytree(chat_folder, tmp_path / "model")
    with engine.started(image, tmp_path, name="temper-vllm", command="serve") as container:
        assert container.finish() == 2
        assert "--engine vllm: vLLM is not installed" in container.log
        assert "Traceback" not in container.log
