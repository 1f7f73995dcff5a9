"""Commands that take a trained model: export, answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("export")(_export)
    app.command("check-import")(_check_import)
    app.command("answer")(_answer)


def _export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A job's name, a run folder or a model folder.")
    ],
    format: Annotated[
        str,
        typer.Option(
            help="safetensors, adapter, adapter-svd, archive, archive-apart, gguf, "
            "bitsandbytes-8bit or transformers-4."
        ),
    ] = "safetensors",
    to: Annotated[
        Path | None, typer.Option(help="The output; export/ in the run folder if omitted.")
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help="The adapter's base, a folder or a Hub id, if it was moved."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="With safetensors or adapter: bf16, fp16 or fp32; as it is if omitted."),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="With adapter-svd: largest rank of a layer.")
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(help="With adapter-svd: share of the squared singular values to keep."),
    ] = None,
    outtype: Annotated[
        str | None,
        typer.Option(help="With gguf: Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0; as it is if omitted."),
    ] = None,
) -> int:
    """Convert a run's model to another format and verify it."""
    from training.export.command import export_model

    options = {"dtype": dtype, "rank": rank, "energy": energy, "outtype": outtype}
    export_model(run, format, to, base_model, **options)
    return 0


def _check_import(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A job's name, a run folder or a model folder.")
    ],
    region: Annotated[str, typer.Option(help="Region of the import.")] = "us-east-1",
) -> int:
    """Check a model against what Bedrock imports.

    The exit code is 2 if the import would fail or the imported model answer wrongly.
    """
    from launch.aws.import_check import print_import_check
    from training.export.command import find_model

    return print_import_check(find_model(run), region)


def _answer(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The base model: a folder or a Hub id.")
    ],
    requests: Annotated[
        Path,
        typer.Argument(
            metavar="REQUESTS",
            help="JSON Lines with prompt, adapter and, optionally, completion.",
        ),
    ],
    adapters: Annotated[
        list[str],
        typer.Argument(metavar="NAME=FOLDER", help="Adapters: a name for each, and its folder."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file of answers; printed if omitted.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of the longest answer.")] = 64,
) -> int:
    """Answer requests that each name an adapter.

    One base model is in memory, whatever the number of adapters.
    """
    from training.evaluation.command import answer_requests

    answer_requests(model, requests, adapters, out, max_new_tokens)
    return 0
