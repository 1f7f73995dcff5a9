"""Run of the Constitutional AI pipeline: journal, cost limit, rows and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from training.config import Job
from training.config.constitutional import Constitutional
from training.console import say
from training.data.schema.rows import PromptRow
from training.judges.base import Judge, JudgeContext, JudgeUsage, build_judge
from training.judges.http_client import HttpJudge
from training.methods.common.generated_rows import (
    check_cost,
    load_generator,
    load_prompts,
    prompt_text,
    write_outputs,
)
from training.methods.common.row_journal import RowJournal
from training.methods.constitutional.pipeline import ConstitutionalPipeline
from training.run_folder import RunFolder
from training.trainer.distributed import detect_world

REPORT = "constitution.json"
_CHUNK = 32
"""Prompts between two writes of the journal."""
_CHARACTERS_PER_TOKEN = 4
_TEMPLATE_CHARACTERS = 600
"""Approximate length of the text around the prompt and the answers in a question."""


def write(job: Job, folder: RunFolder) -> None:
    """Write the generated rows of a job into its run folder, resuming a stopped run.

    Raises:
        DataError: The prompts cannot be read, or no prompt gave a row.
        RunError: The judge fails, or could exceed the job's cost limit.
        ModelError: The model cannot be read, or its context is too short.
    """
    method = job.method
    assert isinstance(method, Constitutional)
    prompts = load_prompts(job)
    journal = RowJournal(folder.path, "judged.jsonl")
    journal.check_prompts([row.id for row in prompts])
    generator = load_generator(job)
    judge = build_judge(
        method.judge,
        JudgeContext(
            device=detect_world().device,
            folder=folder.path,
            cache=folder.cache,
            max_cost_usd=job.resources.max_cost,
            own_generator=lambda: generator,
        ),
    )
    remaining = prompts[len(journal.lines) :]
    _check_judge_cost(job, judge, remaining)
    usage = JudgeUsage()
    pipeline = ConstitutionalPipeline(job, generator, judge, usage)
    for first in range(0, len(remaining), _CHUNK):
        number = len(journal.lines)
        journal.append(list(pipeline.process(remaining[first : first + _CHUNK], number)))
        say(_progress(journal, len(prompts), judge))
    _write_results(job, folder, journal, usage, judge)


def _check_judge_cost(job: Job, judge: Judge, prompts: Sequence[PromptRow]) -> None:
    """Print the highest possible cost of the judge, before its first call.

    Raises:
        RunError: The calls could exceed the job's cost limit.
    """
    method = job.method
    assert isinstance(method, Constitutional)
    if not isinstance(judge, HttpJudge) or not prompts:
        return
    calls = len(prompts) * 2 * method.turns
    answers = 2 * _CHARACTERS_PER_TOKEN * method.rollout.max_new_tokens
    if method.writes == "revisions":
        answers += 2 * _CHARACTERS_PER_TOKEN * method.judge.max_new_tokens
    length = sum(len(prompt_text(row.prompt)) for row in prompts) / len(prompts)
    characters = int(length) + answers + _TEMPLATE_CHARACTERS
    check_cost(job, judge, len(prompts), calls, characters)


def _progress(journal: RowJournal, prompts: int, judge: Judge) -> str:
    spent = f", {judge.ledger.spent['usd']:.4f} USD" if isinstance(judge, HttpJudge) else ""
    judged = f"{len(journal.lines):,} of {prompts:,} prompts judged"
    return f"{judged}, {journal.row_count:,} kept{spent}"


def _write_results(
    job: Job, folder: RunFolder, journal: RowJournal, usage: JudgeUsage, judge: Judge
) -> None:
    """Write the rows and the report.

    Raises:
        DataError: No prompt gave a row.
    """
    method = job.method
    assert isinstance(method, Constitutional)
    votes = [line["votes"] for line in journal.lines if "votes" in line]
    principles = Counter(p for line in journal.lines if line["row"] for p in line["principles"])
    report = {
        "writes": method.writes,
        "judge": method.judge.model_dump(mode="json", exclude_none=True),
        "principles": dict(principles.most_common()),
        "asked": usage.to_json(),
        "spent": judge.ledger.spent if isinstance(judge, HttpJudge) else None,
    }
    if votes:
        # The same letter in both orders means the position was chosen, not the answer.
        by_order = sum(a == b and a is not None for a, b in votes)
        first = sum(vote == "A" for pair in votes for vote in pair)
        valid = sum(vote is not None for pair in votes for vote in pair)
        report["by_order"] = by_order / len(votes)
        report["chose_first"] = first / max(1, valid)
    fix = (
        f"judged.jsonl in {folder.path} has each answer; use another judge, more tokens or other "
        f"prompts"
    )
    write_outputs(journal, folder, REPORT, report, fix)
