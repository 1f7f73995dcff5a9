"""Folder of a pipeline: results of its steps by the digest of what they read, and its history."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from training.errors import RunError
from training.run_folder import write_whole

StepState = Literal["running", "finished", "failed"]
_RESULT, _HISTORY = "result.json", "history.jsonl"
_KEY_CHARACTERS = 16


@dataclass(frozen=True)
class StepResult:
    """Result of a step.

    Attributes:
        key: Digest of what the step reads.
        state: State of its last start.
        digest: Digest of what it gives; empty if it has not finished.
        facts: What steps after it need, such as the folder of the run.
        message: Reason of a failure.
        seconds: Duration of its last start.
        started: Time of its last start in UTC, ISO 8601.
    """

    key: str
    state: StepState
    digest: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0
    started: str = ""


@dataclass(frozen=True)
class PipelineRun:
    """Line of the history: a run of a pipeline.

    Attributes:
        started: Time of its start in UTC, ISO 8601.
        outcome: `promoted`, `not promoted`, `rolled back`, `unchanged`, `cooling down`,
            `over budget`, `finished` (of a pipeline that registers nothing), `stopped` or `failed`.
        detail: Reason, version or message.
        executed: Steps that were executed.
        trained: True if a training was started.
        cost_usd: Cost of the trainings by their plans.
        seconds: Duration.
    """

    started: str
    outcome: str
    detail: str = ""
    executed: tuple[str, ...] = ()
    trained: bool = False
    cost_usd: float = 0.0
    seconds: float = 0.0


class PipelineFolder:
    """Folder of one pipeline.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path):
        self.path = path

    def step(self, name: str, key: str) -> Path:
        """Return the folder of a step for one content of its inputs."""
        return self.path / "steps" / name / key[:_KEY_CHARACTERS]

    def read(self, name: str, key: str) -> StepResult | None:
        """Return the result of a step; None if it was never started with this content."""
        return _read_result(self.step(name, key) / _RESULT)

    def write(self, name: str, result: StepResult) -> None:
        """Write the result of a step."""
        folder = self.step(name, result.key)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _RESULT, json.dumps(asdict(result), indent=1) + "\n")

    def newest(self, name: str) -> StepResult | None:
        """Return the result of the newest start of a step; None if there is none."""
        found = [_read_result(path) for path in self.path.glob(f"steps/{name}/*/{_RESULT}")]
        return max((one for one in found if one), key=lambda one: one.started, default=None)

    @property
    def history(self) -> list[PipelineRun]:
        """Runs of the pipeline, oldest first."""
        path = self.path / _HISTORY
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8")
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [_run_of(json.loads(line)) for line in lines]

    def record(self, run: PipelineRun) -> None:
        """Add a run to the history."""
        with (self.path / _HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run)) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the pipeline, so that no other process runs it.

        Raises:
            RunError: Another process does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "run.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{self.path}: another process runs this pipeline. Wait for its end; "
                    f"`temper pipeline status` shows its steps"
                ) from None
            yield


def _read_result(path: Path) -> StepResult | None:
    try:
        return StepResult(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _run_of(document: Mapping[str, Any]) -> PipelineRun:
    return PipelineRun(**{**document, "executed": tuple(document["executed"])})
