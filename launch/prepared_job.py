"""A planned job with everything that targets need to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from launch.job_inputs import (
    InputArtifact,
    RemoteEndpoint,
    collect_endpoints,
    collect_inputs,
    hub_names,
)

if TYPE_CHECKING:
    from planning import Plan
    from training.config import Job, Pipeline


@dataclass(frozen=True)
class PreparedJob:
    """A job and its plan; what is derived from the job is computed once and shared.

    A target quotes and then submits the same value, so the input files are found and hashed once
    per submission.

    Attributes:
        job: The job, with the choices of the plan applied.
        plan: Its plan.
        source: Name of the job file, for messages.
    """

    job: Job | Pipeline
    plan: Plan
    source: str

    @cached_property
    def inputs(self) -> list[InputArtifact]:
        """Files, folders and S3 addresses that the job reads."""
        return collect_inputs(self.job)

    @cached_property
    def endpoints(self) -> list[RemoteEndpoint]:
        """Endpoints that the job calls while it runs."""
        return collect_endpoints(self.job)

    @cached_property
    def hub_names(self) -> list[str]:
        """Models and data sets that the job downloads from the model hub."""
        return hub_names(self.job)
