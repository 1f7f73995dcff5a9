"""A model with a chat template, two adapters, and a server that answers with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from serving.transformers_model import TransformersServedModel, load_transformers_model
from tests.factories import make_tiny_model
from tests.unit.serving.running import RunningServer, running_server

TEMPLATE = (
    "{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a model with random weights, a chat template and a context of 256 tokens."""
    folder = make_tiny_model(tmp_path_factory.mktemp("served") / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def adapter_folders(chat_folder: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of two LoRA adapters on the model, with random weights."""
    folders = {}
    for seed, name in enumerate(("first", "second")):
        base = AutoModelForCausalLM.from_pretrained(chat_folder, dtype=torch.float32)
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        tuned = get_peft_model(base, config)
        for parameter_name, parameter in tuned.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.3)
        folder: Path = tmp_path_factory.mktemp("adapters") / name
        tuned.save_pretrained(str(folder))
        AutoTokenizer.from_pretrained(chat_folder).save_pretrained(folder)
        folders[name] = str(folder)
    return folders


@pytest.fixture(scope="session")
def served(chat_folder: str) -> TransformersServedModel:
    return load_transformers_model("tiny", chat_folder, {})


@pytest.fixture(scope="session")
def server(served: TransformersServedModel) -> Iterator[RunningServer]:
    with running_server(served, max_running=8) as running:
        yield running
