"""Fixture: steps of a pipeline that only record that they ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

import pipeline.run as pipeline_run
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of
from pipeline.state import StepResult


@dataclass
class StepRecord:
    """Content that the steps read, and the steps that were run."""

    data: str = "rows"
    is_open: bool = True
    fails: dict[str, Exception] = field(default_factory=dict)
    rolled_back: bool = False
    ran: list[str] = field(default_factory=list)


@dataclass
class RecordingRunner:
    """Runner of steps of one kind, whose results are digests; the loop around it is real."""

    kind: str
    recorded: StepRecord

    def key(self, context: PipelineContext, step: Any) -> str:
        used = [context.results[name].digest for name, _ in step.uses().values()]
        return digest_of([self.kind, used, self.recorded.data if self.kind == "prepare" else ""])

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        return True

    def run(self, context: PipelineContext, step: Any) -> StepOutput:
        self.recorded.ran.append(self.kind)
        if self.kind in self.recorded.fails:
            raise self.recorded.fails[self.kind]
        facts: dict[str, Any] = {"folder": "x"}
        if self.kind == "gate":
            facts = {"open": self.recorded.is_open, "unmet": ["m is not better"]}
        if self.kind == "register":
            facts = {"version": "p@1.0.0", "stage": "production"}
        if self.kind == "deploy" and self.recorded.rolled_back:
            facts = {"rolled_back": "p@1.1.0 was rolled back"}
        return StepOutput(digest_of([self.key(context, step), facts]), facts, "done")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepRecord]:
    recorded = StepRecord()
    kinds = ("prepare", "train", "evaluate", "gate", "register", "deploy")
    runners: Mapping[str, Any] = {kind: RecordingRunner(kind, recorded) for kind in kinds}
    monkeypatch.setattr(pipeline_run, "RUNNERS", runners)
    monkeypatch.setattr(pipeline_run, "_predicted_usd", lambda context, step: 7.0)
    yield recorded
