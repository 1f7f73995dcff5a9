"""Teachers that answer prompts in text, with a cache of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from training.config import Job
from training.config.distill_text import DistillText
from training.config.judges import LocalJudge
from training.data.schema.rows import Message
from training.judges.base import JudgeContext, build_judge
from training.judges.http_client import HttpJudge, reply_cache_folder
from training.judges.local_generator import LocalGenerator, Prompt
from training.judges.reply_cache import JudgeReply, ReplyCache, reply_key
from training.methods.common.generated_rows import check_cost, load_generator, prompt_text
from training.models.safetensors_io import source_digest
from training.run_folder import RunFolder
from training.trainer.distributed import detect_world


class TextTeacher(Protocol):
    """Interface of a model that answers prompts."""

    def generate_replies(self, prompts: Sequence[Prompt]) -> list[JudgeReply]:
        """Return the answer to each prompt and whether it was truncated."""


class RemoteTeacher:
    """Teacher behind an endpoint.

    Args:
        remote: Client of the endpoint, which caches its replies.
    """

    def __init__(self, remote: HttpJudge):
        self.remote = remote

    def generate_replies(self, prompts: Sequence[Prompt]) -> list[JudgeReply]:
        """Return the answer to each prompt and whether it was truncated."""
        return self.remote.generate_replies([_as_messages(prompt) for prompt in prompts])

    def check_cost(self, job: Job, prompts: Sequence[Prompt]) -> None:
        """Print the highest possible cost of the answers that are not cached.

        Raises:
            RunError: The cost could exceed the job's limit.
        """
        uncached = self.remote.uncached([_as_messages(prompt) for prompt in prompts])
        if uncached:
            length = sum(len(prompt_text(question)) for question in uncached) / len(uncached)
            check_cost(job, self.remote, len(prompts), len(uncached), int(length))


class LocalTeacher:
    """Teacher on this machine, whose model is loaded at the first answer that is not cached.

    Args:
        section: Section of the job.
        context: Resources of the run.
        identity: What determines an answer in addition to the prompt and the settings.
    """

    def __init__(self, section: LocalJudge, context: JudgeContext, identity: Sequence[object]):
        self._section = section
        self._context = context
        self._identity = [*identity, section.temperature, section.max_new_tokens]
        name = f"{reply_key(*self._identity)[:24]}.sqlite"
        self._cache = ReplyCache(reply_cache_folder(context) / name)
        self._generator: LocalGenerator | None = None

    def generate_replies(self, prompts: Sequence[Prompt]) -> list[JudgeReply]:
        """Return the answer to each prompt and whether it was truncated."""
        keys = [reply_key(self._identity, prompt) for prompt in prompts]
        replies = {key: self._cache.get(key) for key in keys}
        uncached = {k: p for k, p in zip(keys, prompts, strict=True) if replies[k] is None}
        if uncached:
            answers = self._load().generate_replies(
                list(uncached.values()),
                max_new_tokens=self._section.max_new_tokens,
                temperature=self._section.temperature,
            )
            for key, answer in zip(uncached, answers, strict=True):
                self._cache.put(key, answer)
                replies[key] = answer
        return [reply for key in keys if (reply := replies[key]) is not None]

    def _load(self) -> LocalGenerator:
        if self._generator is None:
            section, context = self._section, self._context
            if section.source is None:
                assert context.own_generator is not None
                self._generator = context.own_generator()
            else:
                self._generator = LocalGenerator.load(
                    section.source, section.chat_template, context.device, section.batch_size
                )
        return self._generator


def build_teacher(job: Job, folder: RunFolder) -> RemoteTeacher | LocalTeacher:
    """Return the teacher that a job names.

    Raises:
        ModelError: A local teacher cannot be read.
        RunError: The API key of a remote teacher is not set.
    """
    method = job.method
    assert isinstance(method, DistillText)
    context = JudgeContext(
        device=detect_world().device,
        folder=folder.path,
        cache=folder.cache,
        max_cost_usd=job.resources.max_cost,
        own_generator=partial(load_generator, job),
        role="teacher",
    )
    section = method.teacher
    if isinstance(section, LocalJudge):
        source, template = section.source, section.chat_template
        if source is None:
            source, template = job.model.source, job.model.chat_template
        revision = job.model.revision if section.source is None else None
        # By the digest of its weights, so that a retrained teacher in the same folder is another.
        return LocalTeacher(section, context, [source_digest(source, revision), template])
    remote = build_judge(section, context)
    assert isinstance(remote, HttpJudge)
    return RemoteTeacher(remote)


def _as_messages(prompt: Prompt) -> list[Message]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
