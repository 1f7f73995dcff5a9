"""The command `temper serve`: options, the process, and a registered version."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from registry.blobs import add_blob, blob_path
from registry.checkout import checkout
from registry.errors import RegistryError
from registry.record import FileDigest, ModelRecord, Provenance
from registry.version import FIRST
from temper.cli import main
from tests.run_commands import ROOT
from training.export.model_archive import sha256_of_file


def test_all_wrong_options_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["serve", "model", "--host", "0.0.0.0", "--port", "99999", "--engine", "fast"]
    arguments += ["--adapter", "a", "--adapter", "b=x", "--adapter", "b=y", "--max-running", "0"]
    assert main([*arguments, "--timeout", "0", "--max-context", "1"]) == 2
    message = capsys.readouterr().err
    for problem in (
        "--adapter a: write NAME=FOLDER",
        "--adapter b=y: the name b is taken",
        "--max-running 0: at least 1",
        "--max-context 1: at least 2",
        "--engine fast: write auto, transformers, llama.cpp or vllm",
        "--port 99999: a port is from 0 to 65535",
        "--timeout 0: more than 0 seconds",
        "--host 0.0.0.0 can be reached from other machines, which needs a key",
    ):
        assert problem in message


def test_a_taken_port_is_noticed_before_the_model_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "/nowhere", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port} cannot be used: Address already in use" in capsys.readouterr().err


def test_models_and_adapters_that_cannot_be_served(
    chat_folder: str,
    adapter_folders: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 4
    assert "does not exist" in capsys.readouterr().err
    assert main(["serve", chat_folder, "--port", "0", "--adapter", f"a={chat_folder}"]) == 4
    assert "is no adapter's folder" in capsys.readouterr().err
    soft = tmp_path / "soft"
    soft.mkdir()
    config = json.loads((Path(adapter_folders["first"]) / "adapter_config.json").read_text())
    soft_config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}
    soft_config["base_model_name_or_path"] = config["base_model_name_or_path"]
    (soft / "adapter_config.json").write_text(json.dumps(soft_config))
    assert main(["serve", chat_folder, "--port", "0", "--adapter", f"soft={soft}"]) == 4
    assert "whose virtual tokens cannot share the cache" in capsys.readouterr().err


@pytest.mark.slow
def test_the_process_serves_and_ends_when_told(chat_folder: str) -> None:
    command = [sys.executable, "-m", "temper", "serve", chat_folder, "--port", "0", "--name", "t"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        try:
            lines = [process.stderr.readline() for _ in range(4)]
            assert lines[1] == "serving t\n", lines
            url = lines[2].split()[0]
            body = json.dumps({"prompt": "x", "max_tokens": 3}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/completions", body, headers)
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = json.load(response)
            assert answer["usage"]["completion_tokens"] >= 1
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
        assert process.wait(20) in {0, 130}
    assert "Traceback" not in rest


def test_a_checkout_of_a_registered_version_is_what_was_registered(
    chat_folder: str, tmp_path: Path
) -> None:
    root = tmp_path / "registry"
    files = {}
    for path in sorted(Path(chat_folder).iterdir()):
        sha256 = sha256_of_file(path)
        add_blob(root, path, sha256)
        files[path.name] = FileDigest(sha256, path.stat().st_size)
    origin = Provenance("a/1", "base", None, None, "sft", None, {}, "0" * 64, {})
    forms = {"safetensors": files}
    record = ModelRecord("name", FIRST, "2026-01-01", "login", forms, {}, (), origin)
    folder = checkout(root, record)
    assert checkout(root, record) == folder
    for path in Path(chat_folder).iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    (folder / "config.json").unlink()
    assert (checkout(root, record) / "config.json").is_file()
    blob = blob_path(root, files["config.json"].sha256)
    blob.unlink()  # it may be a hard link of the model's file
    blob.write_text("{}")
    with pytest.raises(RegistryError, match="was changed"):
        checkout(root, record)
    gguf = ModelRecord("name", FIRST, "", "login", {"gguf": files}, {}, (), origin)
    with pytest.raises(RegistryError, match="none of which Transformers loads"):
        checkout(root, gguf)
