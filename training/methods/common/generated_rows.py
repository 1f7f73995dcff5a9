"""Shared parts of methods that generate a dataset: prompts, the job's own model, cost, output."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from training.config import Job
from training.console import say
from training.data.schema.rows import PromptRow
from training.data.tokenization.corpus import typed_rows
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import DataError, RunError
from training.judges.http_client import HttpJudge
from training.judges.local_generator import LocalGenerator, Prompt
from training.methods.common.row_journal import RowJournal
from training.models.load import load_model
from training.models.tokenizer import load_tokenizer
from training.run_folder import RunFolder, write_whole
from training.trainer.distributed import detect_world

_DEFAULT_BATCH_SIZE = 16


def load_prompts(job: Job) -> list[PromptRow]:
    """Return the prompts of a job under ids that are unique and change with the prompt.

    A resumed run compares these ids with its journal to detect changed data.

    Raises:
        DataError: The prompts cannot be read, or there are none.
    """
    rows = list(typed_rows(job))[: job.data.limit]
    if not rows:
        raise DataError("data.train: there are no prompts in it")
    prompts = []
    for number, row in enumerate(rows):
        assert isinstance(row, PromptRow)
        digest = hashlib.sha256(prompt_text(row.prompt).encode()).hexdigest()[:8]
        row_id = f"{number}:{row.id}#{digest}"
        prompts.append(PromptRow(row_id, row.prompt, row.reference, row.columns))
    return prompts


def prompt_text(prompt: Prompt) -> str:
    """Return a prompt as a single text; messages are prefixed with their roles."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def format_completion(row: PromptRow, answer: str) -> Any:
    """Return an answer in the format of its prompt: a text, or a list of one message."""
    if isinstance(row.prompt, str):
        return answer
    return [{"role": "assistant", "content": answer}]


def load_generator(job: Job) -> LocalGenerator:
    """Load the job's own model for generation.

    Raises:
        ModelError: The model cannot be read.
    """
    tokenizer = load_tokenizer(job.model)
    model = load_model(job, tokenizer, detect_world().device)
    model.to(detect_world().device).eval().requires_grad_(False)
    size = job.train.micro_batch_size or _DEFAULT_BATCH_SIZE
    return LocalGenerator(model, tokenizer, RowTokenizer.for_job(job, tokenizer), size)


def write_outputs(
    journal: RowJournal, folder: RunFolder, report_name: str, report: dict[str, Any], fix: str
) -> None:
    """Write the generated rows for later stages, and a report on all prompts.

    Args:
        journal: Outcome of every prompt.
        folder: Run folder.
        report_name: File name of the report.
        report: Content of the report, to which the counts of prompts and rows are added.
        fix: Advice in the error message if no prompt gave a row.

    Raises:
        DataError: No prompt gave a row.
    """
    dropped = journal.dropped()
    counts = {"prompts": len(journal.lines), "rows": journal.row_count, "dropped": dropped}
    text = json.dumps({**report, **counts}, indent=1, ensure_ascii=False)
    write_whole(folder.path / report_name, text + "\n")
    reasons = ", ".join(f"{why}: {times:,}" for why, times in dropped.items())
    if not journal.row_count:
        raise DataError(f"none of {len(journal.lines):,} prompts gave a row ({reasons}). {fix}")
    path = journal.write_rows()
    say(f"{path}: {journal.row_count:,} rows" + (f"; dropped: {reasons}" if reasons else ""))


def check_cost(job: Job, model: HttpJudge, prompts: int, calls: int, characters: int) -> None:
    """Print the highest possible cost of the calls, before the first one.

    Args:
        job: Job with the cost limit.
        model: Judge or teacher that is called.
        prompts: Number of prompts, for the message.
        calls: Number of calls.
        characters: Approximate length of the question in a call.

    Raises:
        RunError: The calls could exceed the cost limit.
    """
    usd = model.max_usd(calls, characters)
    spent = float(model.ledger.spent["usd"])
    say(f"{model.role}: {calls:,} calls for {prompts:,} prompts, at most about {usd:.4f} USD")
    limit = job.resources.max_cost
    if limit is not None and usd + spent > limit:
        raise RunError(
            f"the {model.role} could cost {usd + spent:.4f} USD, and resources.max_cost is "
            f"{limit:g} USD. Raise it, lower data.limit (now {prompts:,} prompts), or use a "
            f"cheaper model as the {model.role}"
        )
