"""Distillation from text: a teacher answers prompts, and later stages learn from its answers.

Kim and Rush 2016, arXiv:1606.07947. Every answer is kept as it comes: in the run, so that a stopped
run goes on behind the last one, and in the cache, so that no prompt is ever asked twice of the same
teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from training.config import Job
from training.config.distill_text import DistillText
from training.config.judges import LocalJudge
from training.console import say
from training.data.schema.rows import Message, PromptRow
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.judges.base import JudgeContext, build_judge
from training.judges.cost_ledger import JudgeReply, ReplyCache, reply_key
from training.judges.http_client import HttpJudge, reply_cache_folder
from training.judges.local_generator import LocalGenerator, Prompt
from training.methods.common.generated_rows import (
    answerer_of,
    check_price,
    hand_on,
    in_form_of,
    prompts_of,
    written,
)
from training.methods.common.row_journal import RowJournal
from training.models.safetensors_io import source_digest
from training.models.tokenizer import load_tokenizer
from training.run_folder import RunFolder
from training.trainer.distributed import detect_world

REPORT = "written.json"
_AT_ONCE = 64
"""Prompts taken on together."""


class TextTeacher(Protocol):
    """Someone who answers prompts."""

    def said(self, prompts: Sequence[Prompt]) -> list[JudgeReply]:
        """Return the answer to each."""


def write(job: Job, folder: RunFolder) -> None:
    """Write the rows of a job into its folder, going on where it was stopped.

    Raises:
        DataError: The prompts cannot be read, or no row came of any.
        RunError: The teacher cannot be reached, or would cost more than the job allows.
        ModelError: A teacher here cannot be read, or its context is too short.
    """
    method = job.method
    assert isinstance(method, DistillText)
    prompts = prompts_of(job)
    journal = RowJournal(folder.path, "answered.jsonl")
    journal.check([row.id for row in prompts])
    left = prompts[len(journal.lines) :]
    fits = _fitting(job, left)
    asked = [_told(row.prompt, method.system) for row, fit in zip(left, fits, strict=True) if fit]
    teacher = _teacher(job, folder)
    if isinstance(teacher, RemoteTeacher):
        teacher.check_price(job, asked)
    for first in range(0, len(left), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        journal.add(_lines(job, teacher, left[part], fits[part]))
        say(f"{len(journal.lines):,} of {len(prompts):,} prompts answered, {journal.kept:,} kept")
    _conclude(job, folder, journal, teacher)


def _fitting(job: Job, prompts: Sequence[PromptRow]) -> list[bool]:
    """Return which prompts the student has room for."""
    rows = RowTokenizer.for_job(job, load_tokenizer(job.model))
    talks = rows.template is not None
    ids = (rows.prompt_ids(row.prompt if talks else written(row.prompt)) for row in prompts)
    return [len(one) <= job.data.max_length for one in ids]


def _told(prompt: Prompt, system: str | None) -> Prompt:
    """Return a prompt as the teacher is given it."""
    if system is None:
        return prompt
    said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if said[0]["role"] == "system":
        return [{**said[0], "content": f"{system}\n\n{said[0]['content']}"}, *said[1:]]
    return [{"role": "system", "content": system}, *said]


def _lines(
    job: Job, teacher: TextTeacher, prompts: Sequence[PromptRow], fits: Sequence[bool]
) -> list[dict[str, Any]]:
    """Return what came of each prompt."""
    method = job.method
    assert isinstance(method, DistillText)
    wanted = [row for row, fit in zip(prompts, fits, strict=True) if fit]
    found = iter(teacher.said([_told(row.prompt, method.system) for row in wanted]))
    lines = []
    for row, fit in zip(prompts, fits, strict=True):
        line: dict[str, Any] = {"id": row.id, "row": None}
        if not fit:
            line["why"] = f"the prompt is longer than data.max_length ({job.data.max_length})"
        elif not (reply := next(found)).text.strip():
            line["why"] = "the teacher said nothing"
        elif reply.truncated and not method.keep_truncated:
            line |= {"answer": reply.text, "why": f"cut at {method.max_new_tokens} tokens"}
        else:
            completion = in_form_of(row, reply.text.strip())
            line["row"] = {"prompt": row.prompt, "completion": completion}
        lines.append(line)
    return lines


class RemoteTeacher:
    """A teacher that is called.

    Args:
        remote: Calls it.
    """

    def __init__(self, remote: HttpJudge):
        self.remote = remote

    def said(self, prompts: Sequence[Prompt]) -> list[JudgeReply]:
        return self.remote.generate_replies([_as_messages(prompt) for prompt in prompts])

    def check_price(self, job: Job, prompts: Sequence[Prompt]) -> None:
        """Say what the answers that are not known yet may cost.

        Raises:
            RunError: More than the job allows.
        """
        unknown = self.remote.uncached([_as_messages(prompt) for prompt in prompts])
        if unknown:
            length = sum(len(written(question)) for question in unknown) / len(unknown)
            check_price(job, self.remote, len(prompts), len(unknown), int(length))


class LocalTeacher:
    """A teacher on this machine; its model is loaded when something is not known yet.

    Args:
        section: The job's.
        place: Where it works.
        identity: What decides an answer besides the prompt.
    """

    def __init__(self, section: LocalJudge, place: JudgeContext, identity: Sequence[object]):
        self._section = section
        self._place = place
        self._identity = [*identity, section.temperature, section.max_new_tokens]
        self._replies = ReplyCache(
            reply_cache_folder(place) / f"{reply_key(*self._identity)[:24]}.sqlite"
        )
        self._model: LocalGenerator | None = None

    def said(self, prompts: Sequence[Prompt]) -> list[JudgeReply]:
        keys = [reply_key(self._identity, prompt) for prompt in prompts]
        known = {key: self._replies.get(key) for key in keys}
        unknown = {k: p for k, p in zip(keys, prompts, strict=True) if known[k] is None}
        if unknown:
            answers = self._loaded().generate_replies(
                list(unknown.values()),
                max_new_tokens=self._section.max_new_tokens,
                temperature=self._section.temperature,
            )
            for key, answer in zip(unknown, answers, strict=True):
                self._replies.put(key, answer)
                known[key] = answer
        return [reply for key in keys if (reply := known[key]) is not None]

    def _loaded(self) -> LocalGenerator:
        if self._model is None:
            section, place = self._section, self._place
            if section.source is None:
                assert place.own_generator is not None
                self._model = place.own_generator()
            else:
                self._model = LocalGenerator.load(
                    section.source, section.chat_template, place.device, section.batch_size
                )
        return self._model


def _teacher(job: Job, folder: RunFolder) -> RemoteTeacher | LocalTeacher:
    method = job.method
    assert isinstance(method, DistillText)
    place = JudgeContext(
        device=detect_world().device,
        folder=folder.path,
        cache=folder.cache,
        max_cost_usd=job.resources.max_cost,
        own_generator=partial(answerer_of, job),
        role="teacher",
    )
    section = method.teacher
    if isinstance(section, LocalJudge):
        source, template = section.source, section.chat_template
        if source is None:
            source, template = job.model.source, job.model.chat_template
        revision = job.model.revision if section.source is None else None
        return LocalTeacher(section, place, [source_digest(source, revision), template])
    remote = build_judge(section, place)
    assert isinstance(remote, HttpJudge)
    return RemoteTeacher(remote)


def _as_messages(prompt: Prompt) -> list[Message]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _conclude(job: Job, folder: RunFolder, journal: RowJournal, teacher: TextTeacher) -> None:
    """Write the rows and what became of all prompts.

    Raises:
        DataError: No row came of any.
    """
    method = job.method
    assert isinstance(method, DistillText)
    report = {
        "writes": "answers",
        "teacher": method.teacher.model_dump(mode="json", exclude_none=True),
        "spent": teacher.remote.ledger.spent if isinstance(teacher, RemoteTeacher) else None,
    }
    fix = "Raise teacher.max_new_tokens or data.max_length, or set method.keep_truncated"
    hand_on(journal, folder, REPORT, report, fix)
