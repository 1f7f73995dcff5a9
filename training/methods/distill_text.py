"""Sequence-level distillation: a teacher answers prompts, and later stages learn its answers.

Kim and Rush 2016, arXiv:1606.07947. Every answer is stored as it arrives: in the run's journal, so
that a stopped run resumes after the last one, and in the cache, so that no teacher answers the same
prompt twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.config import Job
from training.config.distill_text import DistillText
from training.console import say
from training.data.schema.rows import PromptRow
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.judges.local_generator import Prompt
from training.methods.common.generated_rows import (
    format_completion,
    load_prompts,
    prompt_text,
    write_outputs,
)
from training.methods.common.row_journal import RowJournal
from training.methods.common.text_teacher import RemoteTeacher, TextTeacher, build_teacher
from training.models.tokenizer import load_tokenizer
from training.run_folder import RunFolder

REPORT = "written.json"
_CHUNK = 64
"""Prompts between two writes of the journal."""


def write(job: Job, folder: RunFolder) -> None:
    """Write the generated rows of a job into its run folder, resuming a stopped run.

    Raises:
        DataError: The prompts cannot be read, or no prompt gave a row.
        RunError: The teacher cannot be reached, or could exceed the job's cost limit.
        ModelError: A local teacher cannot be read, or its context is too short.
    """
    method = job.method
    assert isinstance(method, DistillText)
    prompts = load_prompts(job)
    journal = RowJournal(folder.path, "answered.jsonl")
    journal.check_prompts([row.id for row in prompts])
    remaining = prompts[len(journal.lines) :]
    fits = _fits_student(job, remaining)
    to_answer = [
        _with_system_prompt(row.prompt, method.system)
        for row, fit in zip(remaining, fits, strict=True)
        if fit
    ]
    teacher = build_teacher(job, folder)
    if isinstance(teacher, RemoteTeacher):
        teacher.check_cost(job, to_answer)
    for first in range(0, len(remaining), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        journal.append(_answer_prompts(job, teacher, remaining[chunk], fits[chunk]))
        say(
            f"{len(journal.lines):,} of {len(prompts):,} prompts answered, "
            f"{journal.row_count:,} kept"
        )
    _write_results(job, folder, journal, teacher)


def _fits_student(job: Job, prompts: Sequence[PromptRow]) -> list[bool]:
    """Return for each prompt whether it fits the student's maximal length."""
    rows = RowTokenizer.for_job(job, load_tokenizer(job.model))
    has_template = rows.template is not None
    ids = (
        rows.prompt_ids(row.prompt if has_template else prompt_text(row.prompt)) for row in prompts
    )
    return [len(prompt) <= job.data.max_length for prompt in ids]


def _with_system_prompt(prompt: Prompt, system: str | None) -> Prompt:
    """Return a prompt with the teacher's system prompt, which the student does not see."""
    if system is None:
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if messages[0]["role"] == "system":
        combined = f"{system}\n\n{messages[0]['content']}"
        return [{**messages[0], "content": combined}, *messages[1:]]
    return [{"role": "system", "content": system}, *messages]


def _answer_prompts(
    job: Job, teacher: TextTeacher, prompts: Sequence[PromptRow], fits: Sequence[bool]
) -> list[dict[str, Any]]:
    """Return the journal line of each prompt: its row, or why it gave none."""
    method = job.method
    assert isinstance(method, DistillText)
    to_answer = [row for row, fit in zip(prompts, fits, strict=True) if fit]
    replies = iter(
        teacher.generate_replies(
            [_with_system_prompt(row.prompt, method.system) for row in to_answer]
        )
    )
    lines = []
    for row, fit in zip(prompts, fits, strict=True):
        line: dict[str, Any] = {"id": row.id, "row": None}
        if not fit:
            line["why"] = f"the prompt is longer than data.max_length ({job.data.max_length})"
        elif not (reply := next(replies)).text.strip():
            line["why"] = "the teacher's answer was empty"
        elif reply.truncated and not method.keep_truncated:
            line |= {"answer": reply.text, "why": f"truncated at {method.max_new_tokens} tokens"}
        else:
            completion = format_completion(row, reply.text.strip())
            line["row"] = {"prompt": row.prompt, "completion": completion}
        lines.append(line)
    return lines


def _write_results(job: Job, folder: RunFolder, journal: RowJournal, teacher: TextTeacher) -> None:
    """Write the rows and the report.

    Raises:
        DataError: No prompt gave a row.
    """
    method = job.method
    assert isinstance(method, DistillText)
    report = {
        "writes": "answers",
        "teacher": method.teacher.model_dump(mode="json", exclude_none=True),
        "spent": teacher.remote.ledger.spent if isinstance(teacher, RemoteTeacher) else None,
    }
    fix = "Raise teacher.max_new_tokens or data.max_length, or set method.keep_truncated"
    write_outputs(journal, folder, REPORT, report, fix)
