"""The container's settings are environment variables, and its server keeps SageMaker's contract."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from serving.command import ServeError, check_options
from serving.container import options_from_environment
from tests.run_commands import ROOT


def test_defaults_are_those_of_an_endpoint() -> None:
    options = options_from_environment({"PATH": "/bin", "TEMPER_SERVE_TIMEOUT": ""})
    assert (options.model, options.name, options.port) == ("/opt/ml/model", "model", 8080)
    assert (options.engine, options.timeout) == ("auto", 600.0)
    assert check_options(options) == {}, "no key is needed behind the service"
    assert options_from_environment({"SAGEMAKER_BIND_TO_PORT": "9000"}).port == 9000


def test_each_variable_sets_its_option(tmp_path: Path) -> None:
    for name in ("b", "a"):
        folder = tmp_path / "adapters" / name
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
    (tmp_path / "adapters/none").mkdir()
    given = {
        "TEMPER_SERVE_MODEL": str(tmp_path),
        "TEMPER_SERVE_NAME": "support",
        "TEMPER_SERVE_ENGINE": "transformers",
        "TEMPER_SERVE_ADAPTERS": "c=/c d=/d",
        "TEMPER_SERVE_PORT": "81",
        "TEMPER_SERVE_MAX_RUNNING": "3",
        "TEMPER_SERVE_MAX_WAITING": "4",
        "TEMPER_SERVE_MAX_CONTEXT": "5",
        "TEMPER_SERVE_TIMEOUT": "6.5",
        "TEMPER_API_KEY": "secret",
    }
    options = options_from_environment(given)
    assert (options.name, options.engine, options.port) == ("support", "transformers", 81)
    assert (options.max_running, options.max_waiting, options.max_context) == (3, 4, 5)
    assert (options.timeout, options.api_key) == (6.5, "secret")
    folders = {"a": str(tmp_path / "adapters/a"), "b": str(tmp_path / "adapters/b")}
    assert check_options(options) == {**folders, "c": "/c", "d": "/d"}


def test_all_wrong_variables_are_named_at_once() -> None:
    wrong = {"TEMPER_SERVE_PORT": "http", "TEMPER_SERVE_TIMEOUT": "1m", "TEMPER_SERVE_KEY": "x"}
    with pytest.raises(ServeError) as caught:
        options_from_environment(wrong)
    message = str(caught.value)
    assert "TEMPER_SERVE_PORT must be a number, and is 'http'" in message
    assert "TEMPER_SERVE_TIMEOUT must be a number, and is '1m'" in message
    assert "TEMPER_SERVE_KEY is not a setting. After TEMPER_SERVE_: ADAPTERS, ENGINE" in message


@pytest.mark.slow
def test_the_container_keeps_sagemakers_contract(
    chat_folder: str, adapter_folders: dict[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(chat_folder, model)
    shutil.copytree(adapter_folders["first"], model / "adapters/first")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "TEMPER_SERVE_MODEL": str(model),
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    command = [sys.executable, "-m", "containers.entrypoint", "serve"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            until = time.monotonic() + 120
            while True:
                assert process.poll() is None and time.monotonic() < until
                try:
                    assert client.get("/ping").status_code == 200
                    break
                except httpx2.TransportError:
                    time.sleep(0.1)
            body = {"prompt": "x", "max_tokens": 4, "temperature": 0}
            answers = [
                client.post("/invocations", content=json.dumps(body), headers=headers)
                for headers in (
                    {"Content-Type": "application/json"},
                    {"X-Amzn-SageMaker-Adapter-Identifier": "first"},
                )
            ]
            assert [answer.json()["model"] for answer in answers] == ["model", "first"]
            assert "vllm:num_requests_running" in client.get("/metrics").text
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode in {0, -signal.SIGTERM}
    assert b"Traceback" not in log
