"""The command line of vLLM's server; no test here runs vLLM itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.command import ServeError, ServeOptions, check_options
from serving.vllm.adapters import adapter_problems, lora_rank
from serving.vllm.command_line import tensor_parallel, vllm_arguments, vllm_problems
from tests.run_commands import ROOT


def adapter(folder: Path, **config: Any) -> str:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, **config}))
    return str(folder)


def test_arguments(chat_folder: str, tmp_path: Path) -> None:
    options = ServeOptions(chat_folder, "m", engine="vllm", max_context=99, max_running=7)
    arguments = vllm_arguments(options, {}, 81, 1)
    assert arguments == [
        *("serve", chat_folder, "--served-model-name", "m", "--host", "127.0.0.1", "--port", "81"),
        *("--max-num-seqs", "7", "--generation-config", "vllm", "--max-model-len", "99"),
    ]
    adapters = {
        "a": adapter(tmp_path / "a", r=24),
        "b": adapter(tmp_path / "b", rank_pattern={"q_proj": 40}),
    }
    arguments = vllm_arguments(ServeOptions(chat_folder), adapters, 81, 1)
    rest = arguments[arguments.index("--enable-lora") :]
    assert rest == [
        *("--enable-lora", "--max-lora-rank", "64", "--max-loras", "2", "--lora-modules"),
        *(f"{name}={path}" for name, path in adapters.items()),
    ]
    later = vllm_arguments(ServeOptions(chat_folder, max_lora_rank=20), {}, 81, 1)
    assert later[-4:] == ["--max-lora-rank", "32", "--max-loras", "1"]
    assert lora_rank({}, 600) == 512


def test_devices_divide_the_heads(tmp_path: Path) -> None:
    for heads, gpus, expected in ((32, 8, 8), (14, 4, 2), (9, 8, 3), (8, 0, 1)):
        (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads}))
        assert tensor_parallel(str(tmp_path), gpus) == expected
    (tmp_path / "config.json").write_text('{"text_config": {"num_attention_heads": 6}}')
    assert tensor_parallel(str(tmp_path), 4) == 3
    assert tensor_parallel("org/model", 4) == 4
    arguments = vllm_arguments(ServeOptions(str(tmp_path)), {}, 1, 4)
    assert arguments[arguments.index("--tensor-parallel-size") + 1] == "3"


def test_adapters_that_vllm_cannot_serve(tmp_path: Path) -> None:
    adapters = {
        "good": adapter(tmp_path / "good"),
        "dora": adapter(tmp_path / "dora", use_dora=True),
        "ia3": adapter(tmp_path / "ia3", peft_type="IA3"),
        "head": adapter(tmp_path / "head", modules_to_save=["lm_head"]),
        "bias": adapter(tmp_path / "bias", bias="all"),
        "rank": adapter(tmp_path / "rank", r=64),
        "none": str(tmp_path / "none"),
    }
    problems = adapter_problems(adapters, 32)
    assert [problem.split()[1] for problem in problems] == list(adapters)[1:]
    for said in (
        "it is a DoRA, which vLLM does not serve",
        "it is of type IA3, and vLLM serves LoRA",
        "its own copy of lm_head, which vLLM ignores",
        "it has biases",
        "its rank is 64, and vLLM serves ranks up to 32",
        "adapter_config.json cannot be read: No such file",
    ):
        assert any(said in problem for problem in problems)


def test_models_that_vllm_cannot_serve(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (problem,) = [p for p in vllm_problems(ServeOptions(folder), {}) if folder in p]
    assert "is an adapter's folder: it has no config.json" in problem
    problems = vllm_problems(ServeOptions("x.gguf"), {})
    assert any("x.gguf is a GGUF file; use --engine llama.cpp" in one for one in problems)
    with pytest.raises(ServeError, match="--max-lora-rank 0: at least 1"):
        check_options(ServeOptions(folder, max_lora_rank=0))


def test_the_process_becomes_the_server_and_its_key_is_no_argument(
    chat_folder: str, tmp_path: Path
) -> None:
    """A script in place of vLLM writes what it was started with."""
    script = tmp_path / "bin/vllm"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ['VLLM_API_KEY'], os.getpid()]))\n"
    )
    script.chmod(0o755)
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").write_text("")
    environment = {
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "TEMPER_SERVE_MODEL": chat_folder,
        "TEMPER_SERVE_ENGINE": "vllm",
        "TEMPER_SERVE_PORT": "0",
        "TEMPER_API_KEY": "secret",
    }
    command = [sys.executable, "-m", "containers.entrypoint", "serve"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=60)
    arguments, key, pid = json.loads(output)
    assert (arguments[:2], key, pid) == (["serve", chat_folder], "secret", process.pid)
    assert "secret" not in arguments


def test_the_image_for_gpus_needs_no_other_package_of_the_project() -> None:
    dockerfile = (ROOT / "containers/serve-gpu/Dockerfile").read_text()
    script = (
        "import sys, serving.__main__, serving.vllm.command_line, training.listen_address\n"
        "import containers.entrypoint.__main__\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")} & loaded
    assert all(f"COPY {name} /src/{name}" in dockerfile for name in ours), ours
    assert not {"pydantic", "torch", "transformers", "starlette"} & loaded
