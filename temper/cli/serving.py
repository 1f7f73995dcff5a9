"""Commands that answer with a model: serve, chat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.extras import require
from temper.cli.registry import DEFAULT_REGISTRY, RegistryOption


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("serve")(_serve)
    app.command("chat")(_chat)


ServedArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A run, a folder, a GGUF file, a Hub id, or NAME@VERSION."
    ),
]


def _serve(
    model: ServedArgument,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="A further adapter of MODEL; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model in requests.")] = None,
    engine: Annotated[str, typer.Option(help="auto, transformers, llama.cpp or vllm.")] = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="TEMPER_API_KEY", help="Key that requests must present."),
    ] = None,
    max_running: Annotated[int, typer.Option(help="Most answers in progress.")] = 32,
    max_waiting: Annotated[int, typer.Option(help="Most requests that wait.")] = 256,
    max_context: Annotated[
        int | None, typer.Option(help="Longest prompt and answer together, in tokens.")
    ] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(help="Highest rank of an adapter, also of later ones.")
    ] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option(help="Devices that share the model, with vLLM.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 600.0,
    log_requests: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Log requests, masked, for temper watch; - to print."),
    ] = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Serve a model by OpenAI's protocol on this machine."""
    require("train")
    require("serve")
    from serving.command import ServeOptions, run_server

    return run_server(
        ServeOptions(
            model=_folder(model, registry),
            name=name or model,
            adapters=tuple(adapter or ()),
            engine=engine,
            host=host,
            port=port,
            api_key=api_key,
            max_running=max_running,
            max_waiting=max_waiting,
            max_context=max_context,
            timeout=timeout,
            log_requests=log_requests,
            max_lora_rank=max_lora_rank,
            tensor_parallel=tensor_parallel,
        )
    )


def _chat(
    model: ServedArgument,
    against: Annotated[
        str | None, typer.Option(help="Another model that answers the same questions.")
    ] = None,
    system: Annotated[str, typer.Option(help="System message.")] = "",
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature; 0 for the most likely answer.")
    ] = 0.7,
    top_p: Annotated[
        float, typer.Option(help="Share of the probability from which tokens are drawn.")
    ] = 1.0,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of the longest answer.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the answers.")] = 0,
    save: Annotated[Path, typer.Option(help="File of what /save saves.")] = Path("feedback.jsonl"),
    registry: RegistryOption = DEFAULT_REGISTRY,
) -> int:
    """Chat with a model in the terminal, or with two."""
    require("train")
    from serving.chat.command import ChatOptions, run_chat

    return run_chat(
        ChatOptions(
            model=_folder(model, registry),
            against=None if against is None else _folder(against, registry),
            system=system,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            seed=seed,
            save=save,
            names=(model, against),
        )
    )


def _folder(model: str, registry: Path) -> str:
    """Return a model as it is, or the folder of a registered version."""
    if "@" not in model or Path(model).exists():
        return model
    from registry.checkout import checkout
    from registry.store import LocalRegistry

    return str(checkout(registry, LocalRegistry(registry).find(model)))
