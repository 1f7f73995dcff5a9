"""Pipeline that is being run, and the protocol of what runs its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pipeline.commands import CommandRunner
from pipeline.config import PipelineStep
from pipeline.load import LoadedPipeline
from pipeline.state import PipelineFolder, StepResult
from registry.store import LocalRegistry

SectionT = TypeVar("SectionT", bound=PipelineStep, contravariant=True)


@dataclass
class PipelineContext:
    """Pipeline that is being run.

    Attributes:
        pipeline: The pipeline.
        folder: Its folder.
        registry: Folder of the registry.
        runs: Folder of run folders.
        env: Environment of AWS; None to stay on this machine.
        commands: Runs commands.
        place: Folder of the step that runs.
        results: Results of the steps so far, by name.
    """

    pipeline: LoadedPipeline
    folder: PipelineFolder
    registry: Path
    runs: Path
    env: str | None
    commands: CommandRunner
    place: Path = Path()
    results: dict[str, StepResult] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the pipeline and of the registered model."""
        return self.pipeline.spec.name

    @property
    def store(self) -> LocalRegistry:
        """Registry of models."""
        return LocalRegistry(self.registry)

    @property
    def say(self) -> Callable[[str], None]:
        """Prints a line to the user."""
        return self.commands.say

    def facts(self, step: str) -> Mapping[str, Any]:
        """Return the facts of a step that has finished."""
        return self.results[step].facts

    @property
    def log(self) -> Path:
        """Log of the step that runs."""
        return self.place / "log.txt"

    @property
    def env_options(self) -> tuple[str, ...]:
        """Options that name the environment to a command; none on this machine."""
        return () if self.env is None else ("--env", self.env)


@dataclass(frozen=True)
class StepOutput:
    """Output of a step.

    Attributes:
        digest: Digest of it.
        facts: What steps after it need.
        line: What was done, for the terminal.
    """

    digest: str
    facts: dict[str, Any]
    line: str


class PipelineStepRunner(Protocol, Generic[SectionT]):
    """One kind of step on this machine."""

    def key(self, context: PipelineContext, step: SectionT) -> str:
        """Return the digest of what the step reads."""

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        """Return whether what a finished step gave still exists."""

    def run(self, context: PipelineContext, step: SectionT) -> StepOutput:
        """Run the step, or resume it, with its files in `context.place`."""
