"""Command line of vLLM's server for the options of `temper serve`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from serving.command import ServeError, ServeOptions
from serving.vllm.adapters import RANKS, adapter_problems, lora_rank
from training.errors import ModelError
from training.models.base_digest import check_base_digest
from training.run_folder import RunFolder

_MAX_LORAS = 8
"""Most adapters in one batch."""


def is_installed() -> bool:
    """Return whether vLLM is installed."""
    return find_spec("vllm") is not None and _program() is not None


def serve_with_vllm(
    options: ServeOptions, adapters: Mapping[str, str], listener: socket.socket
) -> int:
    """Replace this process by vLLM's server.

    Args:
        options: Options of the server.
        adapters: Folder of each adapter by its name.
        listener: Socket that is bound to the address, to learn whether it is free.

    Raises:
        ServeError: vLLM is not installed, or cannot serve the model or an adapter.
    """
    options, adapters = with_folders(options, adapters)
    problems = vllm_problems(options, adapters)
    if problems:
        raise ServeError("\n".join(problems))
    port = listener.getsockname()[1]
    listener.close()
    arguments = vllm_arguments(options, adapters, port, gpu_count())
    sys.stderr.write(f"vllm {' '.join(arguments)}\n")
    environment = dict(os.environ)
    if options.api_key:
        environment["VLLM_API_KEY"] = options.api_key  # not an argument, which others could read
    program = str(_program())
    os.execve(program, [program, *arguments], environment)
    return 0  # not reached


def with_folders(
    options: ServeOptions, adapters: Mapping[str, str]
) -> tuple[ServeOptions, dict[str, str]]:
    """Return the options and adapters with the folders of runs in place of the runs.

    Args:
        options: Options of the server.
        adapters: Run or folder of each adapter by its name.
    """
    named = replace(options, model=_folder(options.model), name=options.name or options.model)
    return named, {name: _folder(source) for name, source in adapters.items()}


def _folder(source: str) -> str:
    run = RunFolder(Path(source))
    if run.state is None:
        return source
    return str(run.merged if run.merged.is_dir() else run.model)


def vllm_problems(options: ServeOptions, adapters: Mapping[str, str]) -> list[str]:
    """Return what keeps vLLM from serving, a line for each.

    Args:
        options: Options of the server.
        adapters: Folder of each adapter by its name.
    """
    problems = []
    if not is_installed():
        problems.append(
            "--engine vllm: vLLM is not installed. It needs an environment of its own (pip install "
            "vllm), or the image serve-gpu; --engine transformers serves the same model"
        )
    folder = Path(options.model)
    if folder.suffix == ".gguf":
        problems.append(f"--engine vllm: {options.model} is a GGUF file; use --engine llama.cpp")
    elif folder.is_dir() and not (folder / "config.json").is_file():
        kind = "an adapter's folder" if (folder / "adapter_config.json").is_file() else "no model"
        problems.append(
            f"--engine vllm: {options.model} is {kind}: it has no config.json. Name the folder of "
            f"a whole model, which temper export merges"
        )
    problems += adapter_problems(adapters, options.max_lora_rank or RANKS[-1])
    for name, adapter in adapters.items() if any(folder.glob("*.safetensors")) else ():
        try:
            check_base_digest(Path(adapter), folder)
        except ModelError as error:
            problems.append(f"adapter {name}: {error}")
    return problems


def vllm_arguments(
    options: ServeOptions, adapters: Mapping[str, str], port: int, gpus: int
) -> list[str]:
    """Return the arguments of vLLM's command.

    Args:
        options: Options of the server.
        adapters: Folder of each adapter by its name.
        port: Port to listen on.
        gpus: Number of GPUs.
    """
    arguments = ["serve", options.model, "--served-model-name", options.name or options.model]
    arguments += ["--host", options.host, "--port", str(port)]
    arguments += ["--max-num-seqs", str(options.max_running)]
    # Requests without a temperature get 1, as from the other engines, not the model's own default.
    arguments += ["--generation-config", "vllm"]
    if options.max_context is not None:
        arguments += ["--max-model-len", str(options.max_context)]
    if (parallel := options.tensor_parallel or tensor_parallel(options.model, gpus)) > 1:
        arguments += ["--tensor-parallel-size", str(parallel)]
    if adapters or options.max_lora_rank:
        arguments += ["--enable-lora", "--max-lora-rank"]
        arguments += [str(lora_rank(adapters, options.max_lora_rank))]
        arguments += ["--max-loras", str(min(max(1, len(adapters)), _MAX_LORAS))]
    if adapters:
        arguments += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return arguments


def tensor_parallel(model: str, gpus: int) -> int:
    """Return the largest number of GPUs that divides the model's attention heads.

    Args:
        model: Folder of the model.
        gpus: Number of GPUs.
    """
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return max(1, gpus)
    heads = int(config.get("text_config", config).get("num_attention_heads") or 1)
    return next(count for count in range(max(1, gpus), 0, -1) if heads % count == 0)


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs of this machine."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _program() -> str | None:
    """Return the path of vLLM's command."""
    beside = Path(sys.executable).with_name("vllm")
    return str(beside) if beside.is_file() else shutil.which("vllm")
