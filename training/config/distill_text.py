"""Section `method: {kind: distill_text}`: rows whose answers a teacher writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from training.config.judges import AnyJudge
from training.config.method_base import MethodSection
from training.errors import Problem


class DistillText(MethodSection):
    """Sequence-level distillation: text written by a teacher (arXiv:1606.07947).

    It trains nothing itself: the teacher answers each prompt of `data` once, and a later stage
    reads the rows as `stage:NAME` and trains on them by `sft`. The teacher can therefore have any
    vocabulary, or be behind an endpoint.
    """

    renamed: ClassVar[Mapping[str, str]] = {"keep_cut": "keep_truncated"}

    impl = "training.methods.distill_text:write"
    rows = "prompt"
    title = "Distillation from text"
    trains = False

    kind: Literal["distill_text"]
    teacher: AnyJudge
    """Model that answers: an OpenAI-compatible endpoint, Bedrock, or a local model (`local`;
    without a source, that of the job)."""
    system: str | None = None
    """System prompt of the teacher, which the rows for the student do not contain."""
    keep_truncated: bool = False
    """Keep answers truncated at `teacher.max_new_tokens`. The student then learns to stop there
    too."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer of the teacher."""
        return self.teacher.max_new_tokens

    def validate_against(self, job: Any) -> Iterator[Problem]:
        """Yield what the method cannot be combined with in the rest of a job."""
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
