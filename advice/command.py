"""Command `temper advise`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from advice.advise import Advice, advise
from advice.document import advice_document, advised_approach
from advice.question import Asked, read_question
from advice.render import render_advice
from advice.trials.render import render_trials
from training.errors import JobError, Problem


def print_advice(
    asked: Asked,
    *,
    seconds: float,
    as_json: bool = False,
    out: Path | None = None,
    trials: Path | None = None,
    trial_steps: int = 30,
) -> Advice:
    """Print the advice on a question; write the job of the advised approach, or try each, if asked.

    Args:
        asked: The question as it was typed.
        seconds: Time that running the model may take.
        as_json: Print JSON, for programs.
        out: File of the job.
        trials: Folder of small trials of each approach; None to try none.
        trial_steps: Optimizer steps of each training of the trials.

    Raises:
        JobError: The question cannot be answered, or the job cannot be written; the error lists
            every problem.
    """
    advice = advise(read_question(asked), seconds)
    document = advice_document(advice)
    console = Console(highlight=False)
    if not as_json:
        render_advice(advice, console)
    if trials is not None:
        from advice.trials.run import run_trials

        results = run_trials(advice, trials, trial_steps, _say)
        document["trials"] = [asdict(result) for result in results]
        if not as_json:
            render_trials(results, console)
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
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


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
