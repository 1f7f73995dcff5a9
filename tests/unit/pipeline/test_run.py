"""Run of a pipeline: what is new is run, what failed resumes, and a closed gate ends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pipeline.run as pipeline_run
from pipeline.commands import CommandRunner
from pipeline.config import PipelineSpec
from pipeline.context import PipelineContext, StepOutput
from pipeline.digests import digest_of
from pipeline.load import LoadedPipeline
from pipeline.run import RunOptions, run_pipeline
from pipeline.state import PipelineFolder, StepResult
from training.errors import Interrupted, RunError

SPEC: dict[str, Any] = {
    "name": "p",
    "limits": {"cooldown": "0s"},
    "steps": {
        "prepare": {"kind": "prepare", "job": "a"},
        "train": {"kind": "train", "job": "b", "data": {"data.train": "prepare"}},
        "evaluate": {"kind": "evaluate", "model": "train", "suite": "s"},
        "better": {"kind": "gate", "evaluation": "evaluate", "better": ["t.m"]},
        "register": {"kind": "register", "model": "train", "gate": "better"},
        "deploy": {"kind": "deploy", "version": "register", "to": "endpoint"},
    },
}


@dataclass
class World:
    """Content that the steps read, and the steps that were run."""

    data: str = "rows"
    is_open: bool = True
    fails: dict[str, Exception] = field(default_factory=dict)
    rolled_back: bool = False
    ran: list[str] = field(default_factory=list)


@dataclass
class Steps:
    """Steps that read the world and give digests; the loop around them is the real one."""

    kind: str
    world: World

    def key(self, context: PipelineContext, step: Any) -> str:
        used = [context.results[name].digest for name, _ in step.uses().values()]
        return digest_of([self.kind, used, self.world.data if self.kind == "prepare" else ""])

    def is_current(self, context: PipelineContext, result: StepResult) -> bool:
        return True

    def run(self, context: PipelineContext, step: Any) -> StepOutput:
        self.world.ran.append(self.kind)
        if self.kind in self.world.fails:
            raise self.world.fails[self.kind]
        facts: dict[str, Any] = {"folder": "x"}
        if self.kind == "gate":
            facts = {"open": self.world.is_open, "unmet": ["m is not better"]}
        if self.kind == "register":
            facts = {"version": "p@1.0.0", "stage": "production"}
        if self.kind == "deploy" and self.world.rolled_back:
            facts = {"rolled_back": "p@1.1.0 was rolled back"}
        return StepOutput(digest_of([self.key(context, step), facts]), facts, "done")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    kinds = ("prepare", "train", "evaluate", "gate", "register", "deploy")
    runners: Mapping[str, Any] = {kind: Steps(kind, world) for kind in kinds}
    monkeypatch.setattr(pipeline_run, "RUNNERS", runners)
    monkeypatch.setattr(pipeline_run, "_predicted_usd", lambda context, step: 7.0)
    yield world


def context(folder: Path, env: str | None = "dev", **limits: Any) -> PipelineContext:
    spec = PipelineSpec.model_validate({**SPEC, "limits": {"cooldown": "0s", **limits}})
    loaded = LoadedPipeline(folder / "p.yaml", spec, tuple(SPEC["steps"]))
    home = PipelineFolder(folder / "p")
    home.path.mkdir(exist_ok=True)
    runner = CommandRunner(lambda line: None, {})
    return PipelineContext(loaded, home, folder / "registry", folder / "runs", env, runner)


ALL = ["prepare", "train", "evaluate", "gate", "register", "deploy"]


def test_unchanged_data_run_nothing_and_changed_data_everything(
    tmp_path: Path, world: World
) -> None:
    first = run_pipeline(context(tmp_path), RunOptions())
    assert (first.outcome, first.detail) == ("promoted", "p@1.0.0 is production")
    assert world.ran == ALL and first.trained and first.cost_usd == 7.0
    second = run_pipeline(context(tmp_path), RunOptions())
    assert second.outcome == "unchanged" and world.ran == ALL and not second.trained
    world.data = "more rows"
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "promoted"
    assert world.ran == ALL * 2
    world.data = "rows"  # as they were at first: the results are still known
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "unchanged"
    assert run_pipeline(context(tmp_path), RunOptions(fresh=True)).executed == tuple(SPEC["steps"])
    assert len(PipelineFolder(tmp_path / "p").history) == 5


def test_a_closed_gate_promotes_nothing(tmp_path: Path, world: World) -> None:
    world.is_open = False
    run = run_pipeline(context(tmp_path), RunOptions())
    assert (run.outcome, run.detail) == ("not promoted", "better: m is not better")
    assert world.ran == ALL[:4]
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "unchanged"


@pytest.mark.parametrize("error", [RunError("no space"), Interrupted("stopped")])
def test_a_failed_step_is_the_first_of_the_next_run(
    tmp_path: Path, world: World, error: Exception
) -> None:
    world.fails["evaluate"] = error
    with pytest.raises(type(error)):
        run_pipeline(context(tmp_path, cooldown="6h"), RunOptions())
    outcome = PipelineFolder(tmp_path / "p").history[-1]
    assert outcome.outcome in ("failed", "stopped") and "evaluate: " in outcome.detail
    world.ran.clear()
    world.fails.clear()
    assert run_pipeline(context(tmp_path, cooldown="6h"), RunOptions()).outcome == "promoted"
    assert world.ran == ["evaluate", "gate", "register", "deploy"]


def test_limits_end_a_run_before_it_trains(tmp_path: Path, world: World) -> None:
    run_pipeline(context(tmp_path), RunOptions())
    world.data, world.ran = "more rows", []
    cooling = run_pipeline(context(tmp_path, cooldown="6h"), RunOptions())
    assert cooling.outcome == "cooling down" and world.ran == ["prepare"]
    over = run_pipeline(context(tmp_path, max_monthly_cost="10 USD"), RunOptions())
    assert over.outcome == "over budget" and "train" not in world.ran
    forced = run_pipeline(context(tmp_path, cooldown="6h"), RunOptions(ignore_cooldown=True))
    assert forced.outcome == "promoted"


def test_a_rollback_is_the_outcome_and_is_not_repeated(tmp_path: Path, world: World) -> None:
    world.rolled_back = True
    run = run_pipeline(context(tmp_path), RunOptions())
    assert (run.outcome, run.detail) == ("rolled back", "p@1.1.0 was rolled back")
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "unchanged"


def test_nothing_is_deployed_without_an_environment(tmp_path: Path, world: World) -> None:
    assert run_pipeline(context(tmp_path, env=None), RunOptions()).outcome == "promoted"
    assert world.ran == ALL[:5]


def test_one_process_runs_a_pipeline(tmp_path: Path) -> None:
    with (
        PipelineFolder(tmp_path).held(),
        pytest.raises(RunError, match="another process runs this pipeline"),
        PipelineFolder(tmp_path).held(),
    ):
        pass
