"""Local runs: listed, resolved by name, stopped, resumed, deleted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from launch.errors import LaunchError
from launch.resolve_run import resolve_run
from launch.run_index import RunIndex
from launch.targets.local import read_folder
from temper.cli import app
from tests.run_commands import (
    ROOT,
    Run,
    assert_identical,
    changed,
    finish,
    start_command,
    steps_taken,
    train_here,
    wait_until,
)
from training.run_folder import hold, write_whole


def launch(*arguments: str, **variables: str) -> Result:
    """Run a command without a terminal."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "160", **variables})


def make_run(runs: Path, name: str, state: str = "finished", loss: float | None = 1.5) -> Path:
    """Create the folder of a run.

    Args:
        runs: Folder of all run folders.
        name: `<name>/<run id>`.
        state: State of the run.
        loss: Last loss; None for a run without metrics.
    """
    folder = runs / name
    folder.mkdir(parents=True)
    write_whole(folder / "status.json", json.dumps({"state": state, "message": "loss is NaN"}))
    if loss is not None:
        rows = [{"step": n, "loss": loss + 10 - n} for n in range(1, 11)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    home = tmp_path / "runs"
    make_run(home, "a/20260101-080000")
    make_run(home, "a/20260102-080000", "failed")
    make_run(home, "b/20260103-080000", "stopped", loss=None)
    (home / "a" / "latest").symlink_to("20260102-080000")
    return home


def test_status_imports_nothing_heavy() -> None:
    code = "import launch.commands, launch.render, sys; print(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"torch", "transformers", "boto3", "botocore", "pydantic", "training.config"}
    assert not heavy & set(result)
    assert not [name for name in result if name.startswith("planning")]


def test_all_runs_in_one_table(runs: Path) -> None:
    result = launch("status", "--runs", str(runs))
    assert result.exit_code == 0, result.stderr
    (_, *lines), reasons = (part.splitlines() for part in result.stdout.split("\n\n"))
    assert [line.split()[0] for line in lines] == [
        "a/20260101-080000",
        "a/20260102-080000",
        "b/20260103-080000",
    ]
    assert "trained" in lines[0] and "1.5000" in lines[0]
    assert "training failed" in lines[1]
    assert len(reasons) == 2
    assert "a/20260102-080000" in reasons[1] and "loss is NaN" in reasons[1]
    assert "stopped" in lines[2]


def test_no_runs_yet(tmp_path: Path) -> None:
    assert "temper train" in launch("status", "--runs", str(tmp_path / "runs")).stdout


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a", "a/20260102-080000"),
        ("a/latest", "a/20260102-080000"),
        ("a/20260101-080000", "a/20260101-080000"),
        ("20260103-080000", "b/20260103-080000"),
        ("a/20260101", "a/20260101-080000"),
    ],
)
def test_run_is_resolved_by_name(runs: Path, name: str, found: str) -> None:
    assert resolve_run(runs, name).run == found


def test_unknown_run(runs: Path) -> None:
    with pytest.raises(LaunchError, match=r"c: no such run in .* b/20260103-080000"):
        resolve_run(runs, "c")


def test_lost_or_damaged_index_is_rebuilt(runs: Path) -> None:
    index = RunIndex(runs)
    rows = index.rows()
    index.path.unlink()
    assert RunIndex(runs).rows() == rows
    index.path.write_bytes(b"this is no database" * 100)
    assert RunIndex(runs).rows() == rows


def test_index_follows_folders(runs: Path) -> None:
    states = {row.run: row.status.state for row in RunIndex(runs).rows()}
    assert states["b/20260103-080000"] == "stopped"
    write_whole(runs / "b/20260103-080000/status.json", json.dumps({"state": "finished"}))
    make_run(runs, "b/20260104-080000")
    states = {row.run: row.status.state for row in RunIndex(runs).rows()}
    assert states["b/20260103-080000"] == states["b/20260104-080000"] == "not deployed"


def test_run_without_process_is_stopped(runs: Path) -> None:
    folder = make_run(runs, "b/20260105-080000", "running")
    assert read_folder(folder).state == "stopped"
    with hold(folder):
        assert read_folder(folder).state == "training"


def test_one_run_in_detail(runs: Path, document: dict[str, Any]) -> None:
    folder = runs / "a/20260102-080000"
    (folder / "job.yaml").write_text(
        yaml.safe_dump(
            changed(
                document,
                data={"train": [{"source": "rows.jsonl", "limit": 100}]},
                adapter={"kind": "lora", "r": 16},
            )
        )
    )
    plan = {
        "predicted": {
            "machine": "this machine",
            "hours": {"low": 0.1, "high": 2},
            "cost_usd": {"low": 0, "high": 0},
        }
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    result = launch("status", "a", "--runs", str(runs)).stdout
    for word in (
        "rows.jsonl (limit 100)",
        "learning_rate 0.001",
        "lora (r 16)",
        "this machine: 6.0 min to 2.0 h",
        "creator",
        "MiB",
    ):
        assert word in result


def test_delete_asks_and_lists(runs: Path) -> None:
    folder = runs / "a/20260102-080000"
    asked = launch("delete", "a", "--runs", str(runs))
    assert asked.exit_code == 2
    assert str(folder) in asked.stdout and "YES=1" in asked.stderr
    assert folder.exists()
    done = launch("delete", "a", "--runs", str(runs), YES="1")
    assert done.exit_code == 0, done.stderr
    assert not folder.exists()
    assert (runs / "a/latest").resolve().name == "20260101-080000"


def test_running_run_is_not_deleted(runs: Path) -> None:
    folder = make_run(runs, "b/20260105-080000", "running")
    with hold(folder):
        result = launch("delete", "b", "--runs", str(runs), YES="1")
    assert result.exit_code == 4
    assert "Stop it first" in result.stderr and folder.exists()


def test_logs_show_the_length_of_the_run(runs: Path) -> None:
    (runs / "a/20260101-080000/manifest.json").write_text(json.dumps({"steps": 30}))
    row = {"step": 3, "eval_loss": 1.5}
    (runs / "a/20260101-080000/metrics.jsonl").write_text(json.dumps(row) + "\n")
    lines = launch("logs", "a/20260101-080000", "--runs", str(runs)).stdout.splitlines()
    assert lines[0] == "step      3/30 | eval_loss 1.5000"


def test_stop_of_a_run_that_is_over_asks_nothing(runs: Path) -> None:
    result = launch("stop", "a/20260101-080000", "--runs", str(runs))
    assert result.exit_code == 0
    assert result.stdout.strip() == "a/20260101-080000 is trained: nothing is running"


def test_nothing_to_fetch_yet(runs: Path) -> None:
    result = launch("fetch", "b", "--runs", str(runs))
    assert result.exit_code == 4
    assert result.stderr.strip() == "b/20260103-080000 has nothing to fetch yet: it is stopped"


def test_fetch_packs_model_on_request(runs: Path) -> None:
    model = runs / "a/20260102-080000/model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    result = launch("fetch", "a", "--archive", "--runs", str(runs))
    assert result.stdout.strip() == str(model.with_name("model.tar.gz"))
    assert model.with_name("model.tar.gz").exists()


@pytest.mark.slow
def test_stop_and_resume_give_the_same_weights(document: dict[str, Any], tmp_path: Path) -> None:
    job = changed(document, train={"max_steps": 60}, checkpoint={"every": "5 steps"})
    process = start_command(job, tmp_path)
    runs = str(tmp_path / "runs")
    assert wait_until(lambda: steps_taken(job, tmp_path) >= 3, process)
    assert "saves a checkpoint first" in launch("stop", "tiny", "--runs", runs, YES="1").stdout
    assert finish(process).code == 75
    assert "stopped" in launch("status", "tiny", "--runs", runs).stdout
    assert launch("resume", "tiny", "--runs", runs).exit_code == 0
    result = launch("logs", "tiny", "--runs", runs).stdout
    assert "60/60" in result and "trained" in result
    (folder,) = (p for p in (tmp_path / "runs/tiny").iterdir() if not p.is_symlink())
    assert_identical(Run(folder), train_here(job, tmp_path / "whole"))


@pytest.mark.parametrize("command", ["status", "logs", "stop", "resume", "fetch", "delete"])
def test_run_that_does_not_exist_is_a_wrong_argument(command: str, tmp_path: Path) -> None:
    """`export` of a run that does not exist ends with the same code."""
    result = launch(command, "nothing", "--runs", str(tmp_path / "runs"))
    assert result.exit_code == 2
    assert "nothing: no such run in" in result.stderr and "temper status --env" in result.stderr
