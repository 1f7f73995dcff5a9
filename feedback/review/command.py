"""Command `temper review`."""

from __future__ import annotations

import json
from pathlib import Path

from feedback.review.label_file import LabelFile
from feedback.review.label_studio import CONFIG, read_export, tasks
from feedback.review.options import ReviewOptions
from feedback.review.pairs import read_pairs
from training.console import say
from training.errors import JobError, Problem
from training.listen_address import is_loopback
from training.run_folder import write_whole


def run_review(options: ReviewOptions) -> int:
    """Serve the review page until the process is told to stop, and return the exit code.

    Raises:
        JobError: An option is wrong.
        TemperError: A file cannot be used.
    """
    if not 0 <= options.overlap <= 1:
        problem = Problem("--overlap", "is a share from 0 to 1", str(options.overlap))
        raise JobError("temper review", [problem])
    if not is_loopback(options.host) and not options.key:
        message = "can be reached from other machines, which needs a key"
        fix = "Set TEMPER_REVIEW_KEY or --key"
        raise JobError("temper review", [Problem("--host", message, options.host, fix)])
    pairs = read_pairs(options.pairs)
    labels = LabelFile(options.labels)
    # Imported here: the exchange with Label Studio needs no server.
    from feedback.review.server import serve

    try:
        return serve(pairs, labels, options)
    finally:
        labels.close()


def export_tasks(pairs: Path, out: Path) -> int:
    """Write the pairs as tasks for Label Studio, and its configuration next to them.

    Raises:
        JobError: A file cannot be written.
        TemperError: The pairs cannot be read.
    """
    made = tasks(read_pairs(pairs))
    config = out.with_suffix(".xml")
    try:
        write_whole(out, json.dumps(made, ensure_ascii=False, indent=1) + "\n")
        write_whole(config, CONFIG)
    except OSError as error:
        problem = Problem("--to-label-studio", f"cannot be written: {error.strerror}", str(out))
        raise JobError("temper review", [problem]) from None
    say(f"{len(made)} tasks: {out}; the labelling configuration: {config}")
    return 0


def import_export(export: Path, out: Path) -> int:
    """Add the judgements of an export of Label Studio to a file of labels.

    Raises:
        TemperError: A file cannot be read or written.
    """
    judgements = read_export(export)
    labels = LabelFile(out)
    try:
        added = sum(labels.add(judgement) for judgement in judgements)
    finally:
        labels.close()
    known = f", {len(judgements) - added} were there already" if added < len(judgements) else ""
    say(f"{added} labels added to {out}{known}. Next: temper feedback {out}")
    return 0
