"""Synchronization with a real SQLite store, read back with the MLflow client."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.run_folders import MANIFEST, measured, step, write_metrics, write_run
from training.tracking.background_publisher import BackgroundPublisher
from training.tracking.mlflow_sync import MlflowSync, flattened, follow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the module: making its tables takes seconds."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def make_run(home: Path, rows: int = 5, **more: Any) -> Path:
    return write_run(
        home / "20260301-100000", rows=[step(n, 4.0 - n) for n in range(1, rows + 1)], **more
    )


def read_runs(runs: Path, experiment: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def history(runs: Path, run: Any, key: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]


def test_metrics_params_tags_and_files_arrive(runs: Path) -> None:
    folder = make_run(runs / "arrive", evaluation={"before": measured(4.0)})
    (folder / "report.html").write_text("<p>page")
    mirror = MlflowSync(folder, runs)
    mirror.push()
    write_metrics(
        folder,
        [
            *(step(n, 4.0 - n) for n in range(1, 6)),
            {"step": 5, "eval_loss": 2.5},
            step(6, math.nan),
        ],
    )
    mirror.push()
    mirror.close()
    (run,) = read_runs(runs, "arrive")
    losses = history(runs, run, "loss")
    assert losses[:5] == [(n, 4.0 - n) for n in range(1, 6)]
    assert losses[5][0] == 6 and math.isnan(losses[5][1])
    assert history(runs, run, "eval_loss") == [(5, 2.5)]
    # Nothing for what was not measured.
    assert "mfu" not in run.data.metrics and "step" not in run.data.metrics
    assert run.data.params["train.global_batch_size"] == "8"
    assert json.loads(run.data.params["data.train"]) == [{"source": "data/pairs.jsonl"}]
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.info.run_name == "20260301-100000"
    assert run.info.status == "FINISHED"
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(runs / "mlartifacts" / "arrive")
    assert (artifacts / "report.html").read_text() == "<p>page"
    assert json.loads((artifacts / "evaluation.json").read_text()) == {"before": measured(4.0)}


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(runs: Path) -> None:
    folder = make_run(runs / "resume", rows=8, state="stopped")
    MlflowSync(folder, runs).close()
    assert read_runs(runs, "resume")[0].info.status == "KILLED"
    # Back to the checkpoint of step 5, and on from there: 6 to 8 were taken again.
    # The clock of a process begins anew with it.
    rows = [step(n, 4.0 - n, seconds=n if n < 6 else n - 5) for n in range(1, 11)]
    manifest = {**MANIFEST, "resumed": ["2026-03-01T10:30:00Z"]}
    write_run(folder, state="running", rows=rows[:9], manifest=manifest)
    mirror = MlflowSync(folder, runs)
    mirror.push()
    assert read_runs(runs, "resume")[0].info.status == "RUNNING"
    write_run(folder, state="finished", rows=rows, manifest=manifest)
    mirror.close()
    (run,) = read_runs(runs, "resume")
    assert [step for step, _ in history(runs, run, "loss")] == list(range(1, 11))
    assert run.info.status == "FINISHED"


def test_a_file_cut_by_a_resume_is_read_anew(runs: Path) -> None:
    folder = make_run(runs / "cut", rows=4)
    mirror = MlflowSync(folder, runs)
    mirror.push()
    write_metrics(folder, [step(1, 3.0), step(5, 9.0)])
    mirror.push()
    (run,) = read_runs(runs, "cut")
    assert [step for step, _ in history(runs, run, "loss")] == [1, 2, 3, 4, 5]


def test_half_a_line_waits_for_its_end(runs: Path) -> None:
    folder = make_run(runs / "half", rows=1)
    whole = json.dumps(step(2, 7.0))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(whole[:20])
        file.flush()
        mirror = MlflowSync(folder, runs)
        mirror.push()
        file.write(whole[20:] + "\n")
    mirror.push()
    (run,) = read_runs(runs, "half")
    assert history(runs, run, "loss") == [(1, 3.0), (2, 7.0)]


def test_what_failed_to_be_sent_is_sent_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(runs / "again", rows=3)
    mirror = MlflowSync(folder, runs)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/no/such/place.db")
    with pytest.raises(Exception, match=r"unable to open|No such file|Permission"):
        mirror.push()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    mirror.push()
    (run,) = read_runs(runs, "again")
    assert [step for step, _ in history(runs, run, "loss")] == [1, 2, 3]


def test_stages_share_the_experiment_of_their_pipeline(runs: Path) -> None:
    folder = write_run(runs / "life" / "20260301-110000" / "stages" / "01-teach")
    MlflowSync(folder, runs).close()
    (run,) = read_runs(runs, "life")
    assert run.info.run_name == "20260301-110000/01-teach"


def test_more_metrics_than_one_request_holds(runs: Path) -> None:
    folder = make_run(runs / "many", rows=400)
    MlflowSync(folder, runs).close()
    (run,) = read_runs(runs, "many")
    assert len(history(runs, run, "loss")) == len(history(runs, run, "memory_gib")) == 400


def test_flattened_names_each_leaf() -> None:
    document = {"a": {"b": 1, "c": None, "d": {}}, "e": ["x", 2], "f": "text", "g": True}
    assert dict(flattened(document)) == {
        "a.b": "1",
        "a.c": "null",
        "a.d": "{}",
        "e": '["x", 2]',
        "f": "text",
        "g": "true",
    }
    assert dict(flattened({}, "empty")) == {"empty": "{}"}


def test_a_run_without_a_step_is_not_mirrored(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "none")
    (folder / "metrics.jsonl").unlink()
    ours, theirs = os.pipe()
    os.close(theirs)
    assert follow(MlflowSync(folder, tmp_path), ours) == 0
    os.close(ours)
    assert not (tmp_path / "mlflow.db").exists()


@pytest.fixture
def publisher(runs: Path) -> Iterator[BackgroundPublisher]:
    made = BackgroundPublisher(runs)
    yield made
    for mirror in made._mlflow:
        if mirror.process.poll() is None:
            mirror.process.kill()
            mirror.process.wait()


def test_the_command_tracks_a_run_in_mlflow(runs: Path, publisher: BackgroundPublisher) -> None:
    folder = make_run(runs / "beside", rows=2, state="running")
    before = time.monotonic()
    publisher.follow(folder)
    assert time.monotonic() - before < 1, "starting the mirror holds up the run"
    write_run(folder, state="finished", rows=[step(n, 4.0 - n) for n in range(1, 4)])
    publisher.ended(folder)
    (mirror,) = publisher._mlflow
    assert mirror.process.wait(600) == 0, (folder / "logs/mlflow.log").read_text()
    publisher.close()
    (run,) = read_runs(runs, "beside")
    assert [step for step, _ in history(runs, run, "loss")] == [1, 2, 3]
    assert run.info.status == "FINISHED"
    assert (Path(run.info.artifact_uri.removeprefix("file://")) / "report.html").exists()
    assert (folder / "logs" / "mlflow.log").read_text() == ""


def test_a_store_that_cannot_be_reached_is_one_warning(
    tmp_path: Path,
    publisher: BackgroundPublisher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/no/such/place.db")
    folder = make_run(tmp_path / "away")
    publisher.follow(folder)
    publisher.ended(folder)
    publisher._mlflow[0].process.wait(600)
    publisher.close()
    (warning,) = caplog.messages
    assert "MLflow is incomplete" in warning
    assert str(folder / "logs" / "mlflow.log") in warning
    assert (folder / "report.html").exists()


def test_the_end_of_a_command_waits_only_so_long(
    tmp_path: Path, publisher: BackgroundPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.tracking.background_publisher._PATIENCE_S", 0.2)
    publisher.follow(make_run(tmp_path / "slow"))
    before = time.monotonic()
    publisher.close()
    assert time.monotonic() - before < 2


def test_a_report_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, publisher: BackgroundPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_run(tmp_path / "blocked")
    (folder / "report.html").mkdir()
    publisher.ended(folder)
    (warning,) = caplog.messages
    assert "the report could not be written" in warning
    assert "Traceback" in (folder / "logs" / "report.log").read_text()


def test_nothing_heavy_is_loaded_before_a_run_starts() -> None:
    script = (
        "import sys, training.supervisor, training.tracking.mlflow_sync\n"
        "print({'torch', 'mlflow', 'matplotlib', 'jinja2', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
