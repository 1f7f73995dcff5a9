"""Models that a synthesis calls, with a journal of their replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from preparation.synthesis.batch_section import BedrockBatchTeacher
from preparation.synthesis.journal import OnReply, RequestJournal
from training.config.judges import BedrockJudge, JudgeSection, LocalJudge, OpenAiJudge
from training.data.schema.rows import Message
from training.judges.base import JudgeContext, build_judge
from training.judges.cost_ledger import CostLedger
from training.judges.http_client import HttpJudge
from training.judges.reply_cache import JudgeReply, reply_key

LIMIT_KEY = "synthesize.max_cost_usd"


class _Backend(Protocol):
    """Interface of a model that reports each reply as soon as it is known."""

    def answer(self, questions: Sequence[list[Message]], on_reply: OnReply) -> None:
        """Reply to each conversation."""


class JournaledModel:
    """Model whose replies are recorded as they arrive, and never requested twice.

    Args:
        role: `teacher` or `judge`.
        identity: What determines a reply in addition to the question.
        journal: Journal of the replies.
        build: Builds the client; called before the first reply that is not in the journal.
    """

    def __init__(
        self, role: str, identity: Any, journal: RequestJournal, build: Callable[[], _Backend]
    ):
        self._role = role
        self._identity = identity
        self._journal = journal
        self._build = build
        self._backend: _Backend | None = None

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        """Return the text of the reply to each conversation.

        Raises:
            RunError: The model cannot be reached, or the cost limit is reached.
        """
        return [reply.text for reply in self.generate_replies(questions)]

    def generate_replies(self, questions: Sequence[list[Message]]) -> list[JudgeReply]:
        """Return the reply to each conversation and whether it was truncated.

        Raises:
            RunError: The model cannot be reached, or the cost limit is reached.
        """
        keys = [reply_key(self._identity, question) for question in questions]
        unanswered = {
            key: question
            for key, question in zip(keys, questions, strict=True)
            if key not in self._journal
        }
        if unanswered:
            if self._backend is None:
                self._backend = self._build()
            self._backend.answer(list(unanswered.values()), self._record)
        return [self._journal[key] for key in keys]

    def _record(self, question: list[Message], reply: JudgeReply) -> None:
        self._journal.record(reply_key(self._identity, question), self._role, reply)


class _HttpBackend:
    def __init__(self, judge: HttpJudge):
        self._judge = judge

    def answer(self, questions: Sequence[list[Message]], on_reply: OnReply) -> None:
        self._judge.generate_replies(questions, on_reply)


class _LocalBackend:
    def __init__(self, section: LocalJudge):
        from training.judges.local_generator import LocalGenerator
        from training.trainer.distributed import detect_world

        assert section.source is not None
        self._section = section
        self._generator = LocalGenerator.load(
            section.source, section.chat_template, detect_world().device, section.batch_size
        )

    def answer(self, questions: Sequence[list[Message]], on_reply: OnReply) -> None:
        size = self._section.batch_size
        for first in range(0, len(questions), size):
            batch = questions[first : first + size]
            replies = self._generator.generate_replies(
                batch,
                max_new_tokens=self._section.max_new_tokens,
                temperature=self._section.temperature,
            )
            for question, reply in zip(batch, replies, strict=True):
                on_reply(question, reply)


def build_model(
    section: JudgeSection,
    role: str,
    journal: RequestJournal,
    *,
    folder: Path,
    cache: Path,
    max_cost_usd: float | None,
) -> JournaledModel:
    """Return a model of the section `synthesize:`.

    Args:
        section: Section of the model.
        role: `teacher` or `judge`.
        journal: Journal of the replies.
        folder: Folder of the synthesis, which holds the record of what was spent.
        cache: Folder of the replies that runs share.
        max_cost_usd: Limit for the cost of all calls of the synthesis.

    Raises:
        ModelError: A local model does not exist.
    """

    def build() -> _Backend:
        if isinstance(section, LocalJudge):
            return _LocalBackend(section)
        if isinstance(section, BedrockBatchTeacher):
            from preparation.synthesis.bedrock_batch import build as build_batch

            ledger = _batch_ledger(section, role, folder, max_cost_usd)
            return build_batch(section, ledger, folder)
        # A remote model needs no device, and importing torch takes seconds.
        context = JudgeContext(
            cast(Any, None), folder, cache, max_cost_usd, role=role, limit_key=LIMIT_KEY
        )
        judge = build_judge(section, context)
        assert isinstance(judge, HttpJudge)
        return _HttpBackend(judge)

    return JournaledModel(role, _identity(section), journal, build)


def _identity(section: JudgeSection) -> list[Any]:
    """Return what determines a reply in addition to the question.

    Raises:
        ModelError: A local model does not exist.
    """
    settings = [section.temperature, section.max_new_tokens]
    if isinstance(section, LocalJudge):
        from training.models.safetensors_io import source_digest

        assert section.source is not None
        # By the digest of its weights: a retrained model in the same folder is another.
        return [source_digest(section.source, None), section.chat_template, *settings]
    if isinstance(section, OpenAiJudge):
        return [section.url, section.model, *settings]
    # A batch job gives the same replies as single calls, so that either completes the other.
    if isinstance(section, BedrockBatchTeacher):
        return [section.region, section.model, *settings]
    assert isinstance(section, BedrockJudge)
    return [section.url or section.region, section.model, *settings]


def _batch_ledger(
    section: BedrockBatchTeacher, role: str, folder: Path, max_cost_usd: float | None
) -> CostLedger:
    return CostLedger(
        folder / "batch-replies.sqlite",
        folder,
        price=section.price,
        max_cost_usd=max_cost_usd,
        max_reply_tokens=section.max_new_tokens,
        role=role,
        limit_key=LIMIT_KEY,
    )


def model_name(section: JudgeSection) -> str:
    """Return the name of a model as the card has it."""
    if isinstance(section, LocalJudge):
        return str(section.source)
    return str(getattr(section, "model"))  # noqa: B009 (every endpoint has it)
