"""What methods that write rows have in common: prompts, the job's own model, a price."""

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

_ANSWERED_AT_ONCE = 16


def prompts_of(job: Job) -> list[PromptRow]:
    """Return the prompts of a job, each by a name of its own.

    Raises:
        DataError: They cannot be read, or there are none.
    """
    rows = list(typed_rows(job))[: job.data.limit]
    if not rows:
        raise DataError("data.train: there are no prompts in it")
    found = []
    for number, row in enumerate(rows):
        assert isinstance(row, PromptRow)
        content = hashlib.sha256(written(row.prompt).encode()).hexdigest()[:8]
        name = f"{number}:{row.id}#{content}"
        found.append(PromptRow(name, row.prompt, row.reference, row.columns))
    return found


def written(prompt: Prompt) -> str:
    """Return a prompt as one text, for those who read it."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def in_form_of(row: PromptRow, answer: str) -> Any:
    """Return an answer in the form of its prompt."""
    if isinstance(row.prompt, str):
        return answer
    return [{"role": "assistant", "content": answer}]


def answerer_of(job: Job) -> LocalGenerator:
    """Return the job's own model, to answer prompts.

    Raises:
        ModelError: It cannot be read.
    """
    tokenizer = load_tokenizer(job.model)
    model = load_model(job, tokenizer, detect_world().device)
    model.to(detect_world().device).eval().requires_grad_(False)
    size = job.train.micro_batch_size or _ANSWERED_AT_ONCE
    return LocalGenerator(model, tokenizer, RowTokenizer.for_job(job, tokenizer), size)


def hand_on(
    journal: RowJournal, folder: RunFolder, name: str, report: dict[str, Any], fix: str
) -> None:
    """Write the rows for later stages, and a report of what became of all prompts.

    Args:
        journal: Of every prompt.
        folder: Of the run.
        name: Of the report's file.
        report: What it says beside counts.
        fix: What may help where no prompt gave a row.

    Raises:
        DataError: No prompt gave one.
    """
    dropped = journal.dropped()
    counts = {"prompts": len(journal.lines), "rows": journal.kept, "dropped": dropped}
    text = json.dumps({**report, **counts}, indent=1, ensure_ascii=False)
    write_whole(folder.path / name, text + "\n")
    reasons = ", ".join(f"{why}: {times:,}" for why, times in dropped.items())
    if not journal.kept:
        raise DataError(f"none of {len(journal.lines):,} prompts gave a row ({reasons}). {fix}")
    path = journal.write_rows()
    say(f"{path}: {journal.kept:,} rows" + (f"; dropped: {reasons}" if reasons else ""))


def check_price(job: Job, asked: HttpJudge, prompts: int, calls: int, characters: int) -> None:
    """Say what calls may cost before any is made.

    Args:
        job: The run.
        asked: Who is called.
        prompts: What for.
        calls: How many.
        characters: Of a call's question, about.

    Raises:
        RunError: More than the job allows.
    """
    usd = asked.max_usd(calls, characters)
    spent = float(asked.ledger.spent["usd"])
    say(f"{asked.role}: {calls:,} calls for {prompts:,} prompts, at most about {usd:.4f} USD")
    most = job.resources.max_cost
    if most is not None and usd + spent > most:
        raise RunError(
            f"the {asked.role} could cost {usd + spent:.4f} USD, and resources.max_cost is "
            f"{most:g} USD. Raise it, lower data.limit (now {prompts:,} prompts), or take a "
            f"cheaper model as the {asked.role}"
        )
