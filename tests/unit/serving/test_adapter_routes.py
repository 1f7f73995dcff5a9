"""Adapters that are loaded and unloaded while the server answers."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from serving.transformers_model import load_transformers_model
from tests.factories import make_tiny_model
from tests.unit.serving.running import RunningServer, running_server

TEXT = "/v1/completions"
BODY = {"prompt": "def add", "max_tokens": 16, "temperature": 0}


@pytest.fixture(scope="module")
def alone(chat_folder: str, adapter_folders: dict[str, str]) -> dict[str, str]:
    """Answer of the model and of each adapter, all loaded at the start."""
    served = load_transformers_model("tiny", chat_folder, adapter_folders)
    with running_server(served) as running:
        return {name: answer(running, name) for name in ("tiny", *adapter_folders)}


@pytest.fixture(scope="module")
def running(chat_folder: str) -> Iterator[RunningServer]:
    """Server without adapters, which loads ranks up to 8."""
    with running_server(load_transformers_model("tiny", chat_folder, {}, 8)) as running:
        yield running


def answer(running: RunningServer, name: str) -> str:
    text: str = running.complete(model=name, **BODY)["choices"][0]["text"]
    return text


def load(running: RunningServer, name: str, folder: str) -> tuple[int, str]:
    response = running.post("/adapters", {"name": name, "src": folder})
    return response.status_code, response.text


def unload(running: RunningServer, name: str) -> tuple[int, str]:
    response = running.client.delete(f"/adapters/{name}")
    return response.status_code, response.text


def test_an_adapter_answers_from_its_loading_to_its_unloading(
    running: RunningServer, adapter_folders: dict[str, str], alone: dict[str, str]
) -> None:
    assert len(set(alone.values())) == 3
    for name, folder in adapter_folders.items():
        assert load(running, name, folder) == (200, f"Adapter {name} registered")
        listed = [one["id"] for one in running.client.get("/v1/models").json()["data"]]
        assert (listed[0], listed[-1]) == ("tiny", name)
    sources = running.client.get("/adapters").json()["adapters"]
    assert {one["name"]: one["src"] for one in sources} == adapter_folders
    with ThreadPoolExecutor(9) as pool:
        found = list(pool.map(lambda name: answer(running, name), [*alone] * 3))
    assert found == [*alone.values()] * 3
    header = {"X-Amzn-SageMaker-Adapter-Identifier": "second"}
    by_header = running.post("/invocations", BODY, **header).json()
    assert by_header["choices"][0]["text"] == alone["second"]
    for name in adapter_folders:
        assert unload(running, name) == (200, f"Adapter {name} unregistered")
        assert running.error(TEXT, {**BODY, "model": name})[0] == 404
    assert answer(running, "tiny") == alone["tiny"]
    assert running.client.get("/adapters").json() == {"adapters": []}
    manager: Any = running.served.adapter_manager
    running.wait_until_idle()
    assert not manager._switch.configs and not _lora_weights(manager._switch.model)


def _lora_weights(model: Any) -> list[str]:
    return [name for name, _ in model.named_parameters() if "lora_" in name]


def test_answers_are_the_same_while_adapters_come_and_go(
    running: RunningServer, adapter_folders: dict[str, str], alone: dict[str, str]
) -> None:
    assert load(running, "second", adapter_folders["second"])[0] == 200
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(answer, running, name) for name in ("tiny", "second") * 10]
        changes = 0
        while not all(one.done() for one in busy):
            assert load(running, "x", adapter_folders["first"])[0] == 200
            assert unload(running, "x")[0] == 200
            changes += 1
    assert [one.result() for one in busy] == [alone["tiny"], alone["second"]] * 10
    assert changes > 1
    assert unload(running, "second")[0] == 200


def test_a_name_means_another_adapter_while_answers_of_the_first_continue(
    running: RunningServer, adapter_folders: dict[str, str], alone: dict[str, str]
) -> None:
    body = {**BODY, "model": "x", "max_tokens": 100, "ignore_eos": True}
    load(running, "x", adapter_folders["first"])
    expected = running.post(TEXT, body).json()["choices"][0]["text"]
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(running.post, TEXT, body)
        while not running.service.engine.load.running:
            time.sleep(0.001)
        assert unload(running, "x")[0] == 200
        assert load(running, "x", adapter_folders["second"])[0] == 200
        assert not long.done()
        assert answer(running, "x") == alone["second"]
        assert long.result().json()["choices"][0]["text"] == expected
    assert unload(running, "x")[0] == 200


@pytest.fixture(scope="module")
def bad_folders(
    chat_folder: str, adapter_folders: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Folders that are no adapters of the model, by what is wrong with them."""
    root = tmp_path_factory.mktemp("bad")
    for name in ("other", "broken", "pickled", "soft"):
        shutil.copytree(adapter_folders["first"], root / name)
    digest = {"source": "org/other", "digest": "0" * 64}
    (root / "other/base.json").write_text(json.dumps(digest))
    (root / "broken/adapter_model.safetensors").write_bytes(b"\x00")
    (root / "pickled/adapter_model.safetensors").rename(root / "pickled/adapter_model.bin")
    soft = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}
    (root / "soft/adapter_config.json").write_text(json.dumps(soft))
    wide = make_tiny_model(root / "wide-base", hidden_size=64)
    deep = make_tiny_model(root / "deep-base", num_hidden_layers=3)
    kinds: dict[str, tuple[Any, Any]] = {
        "rank": (chat_folder, LoraConfig(r=16, target_modules=["q_proj"])),
        "ia3": (
            chat_folder,
            IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
        ),
        "wide": (wide, LoraConfig(r=2, target_modules=["q_proj"])),
        "deep": (deep, LoraConfig(r=2, target_modules=["q_proj"])),
    }
    for name, (base, config) in kinds.items():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        get_peft_model(model, config).save_pretrained(str(root / name))
    return {name: str(root / name) for name in BAD}


BAD = {
    "other": "trained on org/other, whose weights are not those in",
    "broken": "adapter_model.safetensors cannot be read",
    "pickled": "has no adapter_model.safetensors",
    "soft": "is a prompt_tuning, whose virtual tokens cannot share the cache",
    "rank": "has rank 16, and this server loads ranks up to 8. Start it with a higher --max-lora",
    "wide": r"trained on another model .*q_proj is \[32, 32\] here, and lora_A.weight is \[2, 64",
    "deep": "this one has no layer model.layers.2.self_attn.q_proj. Serve it with that one",
    "ia3": "must be of one kind: present is lora, ia3 is ia3",
}


def test_adapters_that_cannot_be_served_are_refused_and_change_nothing(
    running: RunningServer,
    adapter_folders: dict[str, str],
    bad_folders: dict[str, str],
    alone: dict[str, str],
) -> None:
    assert load(running, "present", adapter_folders["first"])[0] == 200
    for name, words in BAD.items():
        status, message = load(running, name, bad_folders[name])
        assert status == 400, name
        assert re.search(words, json.loads(message)["error"]["message"]), message
    refused = [
        ({"name": "x", "src": "/nowhere"}, 404, "adapter x: the folder /nowhere does not exist"),
        ({"name": "present", "src": bad_folders["wide"]}, 400, "Unload it first: DELETE /adapters"),
        ({"name": "tiny", "src": "/x"}, 400, "the name tiny is that of the model"),
        ({"name": "", "rank": 1}, 400, "name: .*at least 1 char.*; src is missing; rank is not a"),
    ]
    for body, status, words in refused:
        found, message = running.error("/adapters", body)
        assert found == status and re.search(words, message), message
    response = running.client.delete("/adapters/absent")
    assert response.status_code == 404
    assert "absent is not loaded. Loaded: present" in response.text
    assert answer(running, "tiny") == alone["tiny"]
    assert answer(running, "present") == alone["first"]
    assert unload(running, "present")[0] == 200


def test_an_adapter_that_fails_while_it_is_added_leaves_the_model_as_it_was(
    chat_folder: str, adapter_folders: dict[str, str], alone: dict[str, str], tmp_path: Path
) -> None:
    """The first adapter of a model, whose layers PEFT has then replaced."""
    served = load_transformers_model("tiny", chat_folder, {})
    folder = shutil.copytree(adapter_folders["first"], tmp_path / "a")
    config = json.loads((folder / "adapter_config.json").read_text())
    # The matrices fit the layers, and not the rank that the configuration names.
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 2}))
    with running_server(served) as running:
        status, message = load(running, "a", str(folder))
        assert status == 400 and "size mismatch" in message
        assert answer(running, "tiny") == alone["tiny"]
        assert not _lora_weights(served.loader._switch.model)
        assert load(running, "a", adapter_folders["first"])[0] == 200
        assert answer(running, "a") == alone["first"]


def test_a_server_with_a_key_protects_its_adapters(chat_folder: str) -> None:
    with running_server(load_transformers_model("tiny", chat_folder, {}), api_key="k") as running:
        assert load(running, "a", "/x")[0] == unload(running, "a")[0] == 401
        assert running.client.get("/adapters").status_code == 401
