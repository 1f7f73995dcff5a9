"""Command that lets people judge pairs of answers: review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.extras import require


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("review")(_review)


def _review(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="JSON Lines: prompt, answer_a, answer_b.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File of the labels; labels.jsonl next to PAIRS.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share of pairs that two people judge.")] = 0.1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 8300,
    key: Annotated[
        str, typer.Option(envvar="TEMPER_REVIEW_KEY", help="Key that people enter.")
    ] = "",
    to_label_studio: Annotated[
        Path | None, typer.Option(help="Write tasks for Label Studio instead.")
    ] = None,
    from_label_studio: Annotated[
        Path | None, typer.Option(help="Add the labels of its JSON export instead.")
    ] = None,
) -> int:
    """Serve a page on which people judge pairs of answers.

    The page hides which model wrote an answer. The labels are for temper feedback.
    """
    from feedback.review.command import export_tasks, import_export, run_review
    from feedback.review.options import ReviewOptions

    options = ReviewOptions(pairs, out, overlap, host, port, key)
    if to_label_studio is not None:
        return export_tasks(pairs, to_label_studio)
    if from_label_studio is not None:
        return import_export(from_label_studio, options.labels)
    require("serve")
    require("feedback")
    return run_review(options)
