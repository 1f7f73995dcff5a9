"""Section `method: {kind: distill}`: learning from the probabilities of a larger model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from training.config.locations import ModelLocation
from training.config.method_base import MethodSection, RowKind
from training.config.step_profile import ExtraModel, RolloutProfile, StepProfile, StepSpec
from training.config.types import PositiveFloat, PositiveInt, Share


class Distill(MethodSection):
    """Knowledge distillation from a teacher's probabilities (arXiv:1503.02531)."""

    impl = "training.methods.distill:build"
    title = "Distillation"

    kind: Literal["distill"]
    teacher: ModelLocation
    """Folder or Hub id of a model with the student's vocabulary."""
    teacher_revision: str | None = None
    """Branch, tag or commit on the Hub."""
    teacher_4bit: bool = False
    """Load the teacher in 4 bits."""
    loss_on: Literal["assistant", "completion", "all"] | None = None
    """Tokens of a dialogue in the loss, as for `sft`. Without it, rows are plain text."""
    divergence: Literal["forward_kl", "reverse_kl", "js"] = "forward_kl"
    """Divergence of the student's distribution from the teacher's."""
    temperature: PositiveFloat = 1.0
    """Divisor of both models' logits. Above 1, unlikely tokens count for more, which in short runs
    costs more than it teaches (docs/distillation.md)."""
    soft_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the teacher in the loss; the labels have the rest."""
    calibrate: bool = True
    """Scale the teacher's logits by the temperature that minimizes its own loss on the rows, so
    that the student does not learn an overconfident distribution (arXiv:1706.04599)."""
    top_k: PositiveInt | None = None
    """Cache the teacher's K most likely tokens for each position once; later runs on the same rows
    need no teacher. Without it, the teacher runs in every step."""
    on_policy: Share = 0.0
    """Share of steps in which the student writes the answers that are compared (GKD, Agarwal et
    al. 2024, arXiv:2306.13649)."""
    answer_tokens: PositiveInt = 128
    """Longest answer that the student writes, in tokens."""

    @property
    def reads_ahead(self) -> bool:
        """True with `top_k`: all rows are read before the first step, to fill the cache."""
        return self.top_k is not None

    @property
    def rows(self) -> RowKind:  # type: ignore[override]  # decided by the job
        """Kind of row that the method learns from."""
        return "dialogue" if self.loss_on else "text"

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of a step with the teacher, or with its cached distributions.

        Args:
            job: The job that the method is part of.
            step: Size of a step on one device.
        """
        if self.top_k is not None:
            # The cache holds the most likely tokens, and one more for the mass of all others.
            return StepProfile(head="soft", known=self.top_k + 1, divergence=self.divergence)
        teacher = ExtraModel(
            source=self.teacher,
            revision=self.teacher_revision,
            key="method.teacher",
            in_job_precision=True,
            quantized=self.teacher_4bit,
            full_distribution=True,
        )
        rollout = None
        if self.on_policy:
            # The student's answers are sampled for each micro-batch.
            rows, prompt = step.micro_batch_size, step.max_prompt_tokens
            rollout = RolloutProfile(rows, prompt, self.answer_tokens)
        return StepProfile(head="soft", frozen=teacher, divergence=self.divergence, rollout=rollout)
