"""Command `temper serve`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.errors import TemperError
from training.listen_address import bind, is_loopback

ENGINES = ("auto", "transformers", "llama.cpp", "vllm")


class ServeError(TemperError):
    """A server that cannot be started as requested."""

    exit_code = 2


STANDARD_OUTPUT = Path("-")
"""Value of `log_requests` for the standard output."""


@dataclass(frozen=True)
class ServeOptions:
    """Options of `temper serve`.

    Attributes:
        model: Run, folder or Hub id.
        name: Name by which requests mean the model; None for what `model` says.
        adapters: `name=folder` of each further adapter.
        engine: One of `ENGINES`.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        api_key: Key that requests must present.
        needs_key: Refuse to listen on an address of other machines without a key.
        max_running: Most answers in progress at the same time.
        max_waiting: Most requests that wait.
        max_context: Longest prompt and answer together; None for what the model allows.
        timeout: Seconds after which a request ends in an error.
        max_lora_rank: Highest rank of an adapter. vLLM needs it to load adapters later; the engine
            of Transformers loads any rank if it is None.
        tensor_parallel: Devices that share the model, with vLLM; None for all GPUs that divide its
            attention heads.
        log_requests: Folder of the log of requests and answers, `-` for the standard output; None
            for no log.
    """

    model: str
    name: str | None = None
    adapters: tuple[str, ...] = ()
    engine: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    needs_key: bool = True
    max_running: int = 32
    max_waiting: int = 256
    max_context: int | None = None
    timeout: float = 600.0
    max_lora_rank: int | None = None
    tensor_parallel: int | None = None
    log_requests: Path | None = None


def run_server(options: ServeOptions) -> int:
    """Serve a model until the process is told to stop.

    Raises:
        ServeError: The options cannot be used.
        ListenError: The address cannot be used.
        ModelError: The model cannot be loaded.
    """
    adapters = check_options(options)
    vllm = options.engine == "vllm" or (options.engine == "auto" and _takes_vllm(options, adapters))
    listener = bind(options.host, options.port)
    if vllm:
        from serving.vllm.command_line import serve_with_vllm

        return serve_with_vllm(options, adapters, listener)
    from serving.http.server import serve

    sys.stderr.write(f"loading {options.model} …\n")
    from serving.load import load_served_model
    from training.quiet import quiet

    quiet()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    served = load_served_model(
        options.name or options.model,
        options.model,
        adapters,
        options.engine,
        options.max_lora_rank,
    )
    return serve(served.with_context(options.max_context), options, listener)


def _takes_vllm(options: ServeOptions, adapters: Mapping[str, str]) -> bool:
    """Return whether vLLM is usable here and serves the model; say why not if it is usable.

    Raises:
        ServeError: It does not, and an option needs it.
    """
    from serving.vllm.selection import own_architectures, vllm_is_usable, why_not_vllm

    usable = vllm_is_usable()
    reasons = ["it is not installed, or finds no GPU"]
    if usable:
        reasons = why_not_vllm(options, adapters, own_architectures())
    if reasons and options.tensor_parallel:
        raise ServeError(
            f"--tensor-parallel {options.tensor_parallel}: vLLM alone shares a model between "
            f"devices, and it does not serve this model here: {'; '.join(reasons)}. Leave it out, "
            f"or mend that"
        )
    if usable:
        for reason in reasons:
            sys.stderr.write(f"vLLM is installed, and does not serve this model: {reason}\n")
    return not reasons


def check_options(options: ServeOptions) -> dict[str, str]:
    """Return the folder of each adapter by its name, after checking all options.

    Raises:
        ServeError: Some cannot be used; names all of them.
    """
    adapters, problems = _adapters(options)
    limits = (
        ("--max-running", options.max_running, 1),
        ("--max-waiting", options.max_waiting, 0),
        ("--max-context", options.max_context, 2),
        ("--max-lora-rank", options.max_lora_rank, 1),
        ("--tensor-parallel", options.tensor_parallel, 1),
    )
    problems += [
        f"{name} {value}: at least {least}"
        for name, value, least in limits
        if value is not None and value < least
    ]
    if options.engine not in ENGINES:
        problems.append(
            f"--engine {options.engine}: write {', '.join(ENGINES[:-1])} or {ENGINES[-1]}"
        )
    if options.tensor_parallel and options.engine in ("transformers", "llama.cpp"):
        problems.append(
            f"--tensor-parallel {options.tensor_parallel}: {options.engine} does not share a model "
            f"between devices. Leave it out, or use --engine vllm"
        )
    if not 0 <= options.port <= 65535:
        problems.append(f"--port {options.port}: a port is from 0 to 65535")
    if not options.timeout > 0:
        problems.append(f"--timeout {options.timeout:g}: more than 0 seconds")
    if options.needs_key and not options.api_key and not is_loopback(options.host):
        problems.append(
            f"--host {options.host} can be reached from other machines, which needs a key: set "
            f"TEMPER_API_KEY or --api-key"
        )
    problems += _log_problems(options)
    if problems:
        raise ServeError("\n".join(problems))
    return adapters


def _log_problems(options: ServeOptions) -> list[str]:
    """Return why requests cannot be logged, if they are to be."""
    if options.log_requests is None:
        return []
    if options.engine == "vllm":
        return ["--log-requests: vLLM answers by itself, and logs no answers. Use another engine"]
    from preparation.masking import missing_packages

    problems = [f"--log-requests: {missing}" for missing in [missing_packages()] if missing]
    if options.log_requests == STANDARD_OUTPUT:
        return problems
    if options.log_requests.exists() and not options.log_requests.is_dir():
        problems.append(f"--log-requests {options.log_requests}: it is a file, not a folder")
    return problems


def _adapters(options: ServeOptions) -> tuple[dict[str, str], list[str]]:
    """Return the folder of each adapter by its name, and what is wrong with them."""
    problems: list[str] = []
    adapters: dict[str, str] = {}
    for pair in options.adapters:
        name, _, folder = pair.partition("=")
        if not (name and folder):
            problems.append(f"--adapter {pair}: write NAME=FOLDER")
        elif name in adapters or name == (options.name or options.model):
            problems.append(f"--adapter {pair}: the name {name} is taken")
        adapters[name] = folder
    return adapters, problems
