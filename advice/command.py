"""Command `temper advise`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from advice.advise import Advice, advise
from advice.document import advice_document, advised_approach
from advice.question import Asked, read_question
from training.errors import JobError, Problem


def print_advice(
    asked: Asked, *, seconds: float, as_json: bool = False, out: Path | None = None
) -> Advice:
    """Print the advice on a question, and write the job of the advised approach if asked.

    Args:
        asked: The question as it was typed.
        seconds: Time that running the model may take.
        as_json: Print JSON, for programs.
        out: File of the job.

    Raises:
        JobError: The question cannot be answered, or the job cannot be written; the error lists
            every problem.
    """
    advice = advise(read_question(asked), seconds)
    if as_json:
        sys.stdout.write(json.dumps(advice_document(advice), indent=1, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        from advice.render import render_advice

        render_advice(advice, Console(highlight=False))
    if out is not None:
        _write_job(advice, out)
    return advice


def _write_job(advice: Advice, out: Path) -> None:
    """Write the job of the advised approach.

    Raises:
        JobError: It trains nothing, or the file cannot be written.
    """
    import yaml

    approach = advised_approach(advice)
    job = advice.quotes[approach].job
    if not job:
        fix = "Leave --out out: the advised approach trains nothing"
        raise JobError(advice.question.source, [Problem("--out", "there is no job", approach, fix)])
    try:
        out.write_text(yaml.safe_dump(dict(job), sort_keys=False, allow_unicode=True), "utf-8")
    except OSError as error:
        problem = Problem("--out", f"cannot be written: {error.strerror}", str(out))
        raise JobError(advice.question.source, [problem]) from None
