"""`method: {kind: distill_text}`: rows whose answers a teacher writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from training.config.judges import AnyJudge
from training.config.method_base import MethodSection
from training.errors import Problem


class DistillText(MethodSection):
    """Learn from text a teacher wrote (sequence level, Kim and Rush 2016, arXiv:1606.07947).

    It trains nothing itself: the teacher answers the prompts of `data`, each once, and a later
    stage names the rows as `stage:NAME`, to learn by `sft`, with other data or without. So a
    teacher may have any vocabulary, or be behind any endpoint.
    """

    renamed: ClassVar[Mapping[str, str]] = {"keep_cut": "keep_truncated"}

    impl = "training.methods.distill_text:write"
    rows = "prompt"
    title = "Distillation from text"
    trains = False

    kind: Literal["distill_text"]
    teacher: AnyJudge
    """Who answers: an endpoint that speaks OpenAI's protocol, Bedrock, or a model here (`local`;
    without a source, the job's own)."""
    system: str | None = None
    """Told to the teacher before each prompt, and not to the student."""
    keep_truncated: bool = False
    """Keep answers that were cut at `teacher.max_new_tokens`. A student learns to end where they
    do."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer."""
        return self.teacher.max_new_tokens

    def validate_against(self, job: Any) -> Iterator[Problem]:
        """Yield what it cannot go with in the rest of a job."""
        if job.adapter is not None:
            yield Problem(
                "adapter",
                "distill_text writes rows and trains nothing",
                job.adapter.kind,
                "Leave it out here, and set it in the stage that learns from the rows",
            )
        if job.data.validation.wanted:
            yield Problem(
                "data.validation",
                "nothing is measured while rows are written",
                fix="Set it in the stage that learns from them",
            )
