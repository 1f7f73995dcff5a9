"""The command line of vLLM's server; no test here runs vLLM itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.command import ServeError, ServeOptions, check_options, run_server
from serving.vllm.adapters import adapter_problems, lora_rank
from serving.vllm.command_line import (
    tensor_parallel,
    vllm_arguments,
    vllm_problems,
    with_folders,
)
from serving.vllm.selection import own_architectures, vllm_is_usable, why_not_vllm
from tests.run_commands import ROOT
from tests.unit.registry.runs import make_run
from training.models.weights_digest import weights_digest


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
    arguments = vllm_arguments(ServeOptions(str(tmp_path), tensor_parallel=6), {}, 1, 0)
    assert arguments[arguments.index("--tensor-parallel-size") + 1] == "6"


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
    with pytest.raises(ServeError, match="--tensor-parallel 2: transformers does not share"):
        check_options(ServeOptions(folder, engine="transformers", tensor_parallel=2))


@pytest.mark.parametrize("usable", [False, True])
def test_no_other_engine_ignores_tensor_parallelism(
    usable: bool, chat_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.vllm.selection.vllm_is_usable", lambda: usable)
    monkeypatch.setattr("serving.vllm.selection.vllm_problems", lambda *_: [])
    monkeypatch.setattr("serving.vllm.selection.own_architectures", lambda: frozenset({"Other"}))
    with pytest.raises(ServeError) as caught:
        run_server(ServeOptions(chat_folder, port=0, tensor_parallel=2))
    assert "--tensor-parallel 2: vLLM alone shares a model between devices" in str(caught.value)
    why = "no implementation of its own of Llama" if usable else "not installed, or finds no GPU"
    assert why in str(caught.value)


def test_runs_are_served_with_adapters_of_their_weights(tmp_path: Path) -> None:
    run, trained = make_run(tmp_path), tmp_path / "trained"
    options, adapters = with_folders(ServeOptions(str(run)), {"a": adapter(trained)})
    assert (options.model, options.name) == (str(run / "model"), str(run))
    for digest, problems in ((weights_digest(run / "model"), 0), ("0" * 64, 1)):
        (trained / "base.json").write_text(json.dumps({"source": "org/b", "digest": digest}))
        found = [one for one in vllm_problems(options, adapters) if "was trained on org/b" in one]
        assert len(found) == problems


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


class NotVllmError(Exception):
    """Another engine loads the model."""


def _not_vllm(*_: Any, **__: Any) -> Any:
    raise NotVllmError


def test_auto_hands_a_model_to_vllm_that_it_implements(
    chat_folder: str,
    adapter_folders: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A package in vLLM's form stands for an installed vLLM, and a list for the GPUs."""
    registry = tmp_path / "lib/vllm/model_executor/models/registry.py"
    registry.parent.mkdir(parents=True)
    registry.write_text(
        "import torch_that_is_absent\n"
        '_TEXT_GENERATION_MODELS = {"LlamaForCausalLM": ("llama", "LlamaForCausalLM")}\n'
        '_EMBEDDING_MODELS = {"BertModel": ("bert", "BertModel")}\n'
        '_MULTIMODAL_MODELS: dict[str, tuple] = {"Qwen2VL": ("qwen2_vl", "Qwen2VL")}\n'
        '_TRANSFORMERS_BACKEND_MODELS = {"TransformersForCausalLM": ("transformers", "T")}\n'
        "_ALL = {**_TEXT_GENERATION_MODELS}\n"
    )
    assert own_architectures() == frozenset()
    (tmp_path / "lib/vllm/__init__.py").write_text("raise ImportError('slow')\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    assert own_architectures() == {"LlamaForCausalLM", "Qwen2VL"}

    program = tmp_path / "vllm"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert not vllm_is_usable(), "no GPU"
    monkeypatch.setattr("serving.vllm.selection.gpu_count", lambda: 1)
    assert not vllm_is_usable(), "a GPU that torch cannot use"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert vllm_is_usable()

    dora = adapter(tmp_path / "dora", use_dora=True)
    bloom = tmp_path / "bloom"
    bloom.mkdir()
    (bloom / "config.json").write_text('{"architectures": ["BloomForCausalLM"]}')
    served: list[str] = []
    monkeypatch.setattr(
        "serving.vllm.command_line.serve_with_vllm",
        lambda options, adapters, listener: served.append(options.model) or 7,
    )
    monkeypatch.setattr("serving.load.load_served_model", _not_vllm)
    good = ServeOptions(chat_folder, port=0, adapters=(f"a={adapter_folders['first']}",))
    assert run_server(good) == 7
    for model, adapters, words in (
        (bloom, (), "no implementation of its own of BloomForCausalLM"),
        (chat_folder, (f"a={dora}",), "it is a DoRA"),
        (tmp_path / "x.gguf", (), "is a GGUF file"),
        ("org/model", (), "is not known before it is downloaded"),
    ):
        with pytest.raises(NotVllmError):
            run_server(ServeOptions(str(model), port=0, adapters=adapters))
        assert words in capsys.readouterr().err
    logged = ServeOptions(chat_folder, log_requests=tmp_path)
    assert why_not_vllm(logged, {}, own_architectures()) == ["--log-requests: it logs no answers"]
    assert served == [chat_folder]


def test_the_image_for_gpus_needs_no_other_package_of_the_project() -> None:
    copied = (ROOT / "containers/serve-gpu/Dockerfile").read_text()
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
    assert all(f"COPY {name} /opt/temper/code/{name}" in copied for name in ours), ours
    assert not {"pydantic", "torch", "transformers", "starlette"} & loaded
