"""Run of a pipeline: what is new is run, what failed resumes, and a closed gate ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.commands import CommandRunner
from pipeline.config import PipelineSpec
from pipeline.context import PipelineContext
from pipeline.load import LoadedPipeline
from pipeline.run import RunOptions, run_pipeline
from pipeline.state import PipelineFolder
from tests.unit.pipeline.conftest import StepRecord
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


def context(folder: Path, env: str | None = "dev", **limits: Any) -> PipelineContext:
    spec = PipelineSpec.model_validate({**SPEC, "limits": {"cooldown": "0s", **limits}})
    loaded = LoadedPipeline(folder / "p.yaml", spec, tuple(SPEC["steps"]))
    home = PipelineFolder(folder / "p")
    home.path.mkdir(exist_ok=True)
    runner = CommandRunner(lambda line: None, {})
    return PipelineContext(loaded, home, folder / "registry", folder / "runs", env, runner)


ALL = ["prepare", "train", "evaluate", "gate", "register", "deploy"]


def test_unchanged_data_run_nothing_and_changed_data_everything(
    tmp_path: Path, recorded: StepRecord
) -> None:
    first = run_pipeline(context(tmp_path), RunOptions())
    assert (first.outcome, first.detail) == ("promoted", "p@1.0.0 is production")
    assert recorded.ran == ALL and first.trained and first.cost_usd == 7.0
    second = run_pipeline(context(tmp_path), RunOptions())
    assert second.outcome == "unchanged" and recorded.ran == ALL and not second.trained
    recorded.data = "more rows"
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "promoted"
    assert recorded.ran == ALL * 2
    recorded.data = "rows"  # as they were at first: the results are still known
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "unchanged"
    assert run_pipeline(context(tmp_path), RunOptions(fresh=True)).executed == tuple(SPEC["steps"])
    assert len(PipelineFolder(tmp_path / "p").history) == 5


def test_a_closed_gate_promotes_nothing(tmp_path: Path, recorded: StepRecord) -> None:
    recorded.is_open = False
    run = run_pipeline(context(tmp_path), RunOptions())
    assert (run.outcome, run.detail) == ("not promoted", "better: m is not better")
    assert recorded.ran == ALL[:4]
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "unchanged"


@pytest.mark.parametrize("error", [RunError("no space"), Interrupted("stopped")])
def test_a_failed_step_is_the_first_of_the_next_run(
    tmp_path: Path, recorded: StepRecord, error: Exception
) -> None:
    recorded.fails["evaluate"] = error
    with pytest.raises(type(error)):
        run_pipeline(context(tmp_path, cooldown="6h"), RunOptions())
    outcome = PipelineFolder(tmp_path / "p").history[-1]
    assert outcome.outcome in ("failed", "stopped") and "evaluate: " in outcome.detail
    recorded.ran.clear()
    recorded.fails.clear()
    assert run_pipeline(context(tmp_path, cooldown="6h"), RunOptions()).outcome == "promoted"
    assert recorded.ran == ["evaluate", "gate", "register", "deploy"]


def test_limits_end_a_run_before_it_trains(tmp_path: Path, recorded: StepRecord) -> None:
    run_pipeline(context(tmp_path), RunOptions())
    recorded.data, recorded.ran = "more rows", []
    cooling = run_pipeline(context(tmp_path, cooldown="6h"), RunOptions())
    assert cooling.outcome == "cooling down" and recorded.ran == ["prepare"]
    over = run_pipeline(context(tmp_path, max_monthly_cost="10 USD"), RunOptions())
    assert over.outcome == "over budget" and "train" not in recorded.ran
    forced = run_pipeline(context(tmp_path, cooldown="6h"), RunOptions(ignore_cooldown=True))
    assert forced.outcome == "promoted"


def test_a_rollback_is_the_outcome_and_is_not_repeated(
    tmp_path: Path, recorded: StepRecord
) -> None:
    recorded.rolled_back = True
    run = run_pipeline(context(tmp_path), RunOptions())
    assert (run.outcome, run.detail) == ("rolled back", "p@1.1.0 was rolled back")
    assert run_pipeline(context(tmp_path), RunOptions()).outcome == "unchanged"


def test_nothing_is_deployed_without_an_environment(tmp_path: Path, recorded: StepRecord) -> None:
    assert run_pipeline(context(tmp_path, env=None), RunOptions()).outcome == "promoted"
    assert recorded.ran == ALL[:5]


def test_one_process_runs_a_pipeline(tmp_path: Path) -> None:
    with (
        PipelineFolder(tmp_path).held(),
        pytest.raises(RunError, match="another process runs this pipeline"),
        PipelineFolder(tmp_path).held(),
    ):
        pass
