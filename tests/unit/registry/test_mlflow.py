"""MLflow's model registry, on a real SQLite store that is read back with MLflow's own client."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from registry.blobs import blob_path
from registry.command import RegisterOptions, register_model
from registry.errors import RegistryError
from registry.remote.base import trees_of
from registry.remote.mlflow import MlflowRegistry, registry_of
from registry.remote.mlflow_client import shown
from registry.store import LocalRegistry
from tests.unit.registry.mlflow_store import Register, client, numbers, runs_of
from tests.unit.registry.runs import evaluated_run


def test_a_version_arrives_with_files_card_metrics_and_digests(
    remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    record = register("arrives")
    pushed = remote.push(record, store)
    assert (pushed.id, pushed.stage, pushed.trees) == ("arrives@1.0.0", "none", trees_of(record))
    version = client(remote).get_model_version("arrives", "1")
    assert version.description == "# support\n"
    assert version.tags["temper.version"] == "1.0.0"
    assert version.tags["temper.data.train"] == "d1"
    assert version.tags["temper.job_sha256"] == record.evidence["job.yaml"].sha256
    assert version.tags["temper.suite.demo"] == "s1"
    assert version.tags["temper.metric.demo.qa.score"] == "0.7 (95 % 0.6 to 0.8, 100 items)"
    (run,) = runs_of(remote, "arrives")
    assert run.info.run_id == version.run_id and run.info.status == "FINISHED"
    assert run.data.metrics["evaluation/demo/qa.score/low"] == pytest.approx(0.6)
    folder = Path(version.source.removeprefix("file://"))
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=folder / "safetensors",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "model.safetensors: OK" in done.stdout
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert json.loads((folder / "record.json").read_text())["version"] == "1.0.0"
    assert (folder / "evidence/evaluation/demo/results.json").is_file()


def test_pushing_again_changes_nothing(
    remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    record = register("again")
    first = remote.push(record, store)
    before = client(remote).get_model_version("again", "1")
    assert remote.push(record, store) == first
    after = client(remote).get_model_version("again", "1")
    assert numbers(remote, "again") == [1] and len(runs_of(remote, "again")) == 1
    assert after.last_updated_timestamp == before.last_updated_timestamp
    history = client(remote).get_metric_history(before.run_id, "evaluation/demo/qa.score")
    assert len(history) == 1


def test_the_files_are_artifacts_of_the_run_that_trained_them(
    tmp_path: Path, remote: MlflowRegistry, store: LocalRegistry
) -> None:
    experiment = client(remote).create_experiment(
        "training", (tmp_path / "training-artifacts").as_uri()
    )
    run = client(remote).create_run(experiment)
    folder = evaluated_run(tmp_path)
    (folder / "mlflow.json").write_text(json.dumps({"run_id": run.info.run_id}))
    record = register_model(RegisterOptions(folder, store.root, "tracked"))
    remote.push(record, store)
    version = client(remote).get_model_version("tracked", "1")
    assert version.run_id == run.info.run_id and runs_of(remote, "tracked") == []
    assert list((tmp_path / "training-artifacts").glob("*/artifacts/registered/*/safetensors"))
    # On a server that does not have the run, the version gets one of its own.
    client(remote).delete_run(run.info.run_id)
    other = register_model(RegisterOptions(folder, store.root, "untracked"))
    remote.push(other, store)
    (own,) = runs_of(remote, "untracked")
    assert client(remote).get_model_version("untracked", "1").run_id == own.info.run_id


def test_a_version_that_exists_with_other_files_is_refused(
    tmp_path: Path, remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    remote.push(register("exists"), store)
    elsewhere = LocalRegistry(tmp_path / "elsewhere")
    run = evaluated_run(tmp_path, "b")
    other = register_model(RegisterOptions(run, elsewhere.root, "exists"))
    with pytest.raises(RegistryError, match=r"exists@1\.0\.0 exists in MLflow .* other files: saf"):
        remote.push(other, elsewhere)
    assert numbers(remote, "exists") == [1]


def test_a_damaged_file_is_refused_before_anything_is_sent(
    remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    record = register("damaged")
    path = blob_path(store.root, record.forms["safetensors"]["model.safetensors"].sha256)
    path.write_bytes(b"z" * path.stat().st_size)
    with pytest.raises(RegistryError, match="was changed: its SHA-256"):
        remote.push(record, store)
    assert numbers(remote, "damaged") == [] and runs_of(remote, "damaged") == []


def test_an_interrupted_push_leaves_no_version_and_is_completed(
    remote: MlflowRegistry,
    store: LocalRegistry,
    register: Register,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = register("resumed")
    sent: list[list[str]] = []
    log_artifacts = remote._connected.log_artifacts

    def cut(run_id: str, local: str, folder: str) -> None:
        (Path(local) / "safetensors" / "model.safetensors").unlink()
        log_artifacts(run_id, local, folder)
        (Path(local) / "safetensors" / "model.safetensors").write_bytes(b"a"[:0])
        log_artifacts(run_id, local, folder)
        raise ConnectionResetError(104, "Connection reset by peer")

    def spy(run_id: str, local: str, folder: str) -> None:
        sent.append([path.name for path in Path(local).rglob("*") if path.is_file()])
        log_artifacts(run_id, local, folder)

    monkeypatch.setattr(remote._connected, "log_artifacts", cut)
    with pytest.raises(RegistryError, match="What has arrived is kept"):
        remote.push(record, store)
    assert numbers(remote, "resumed") == [] and remote.versions("resumed") == []
    monkeypatch.setattr(remote._connected, "log_artifacts", spy)
    assert remote.push(record, store).trees == trees_of(record)
    assert sent == [["model.safetensors"]]  # the one that was cut; the others had arrived
    assert numbers(remote, "resumed") == [1] and len(runs_of(remote, "resumed")) == 1


def test_of_two_pushes_at_once_one_version_remains(
    remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    record = register("race")
    both = threading.Barrier(2)

    class Racing(MlflowRegistry):
        def _create(self, *arguments: Any) -> None:
            both.wait(60)
            super()._create(*arguments)

    registries = [Racing(remote.uri) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        pushed = list(pool.map(lambda one: one.push(record, store), registries))
    assert pushed[0] == pushed[1] and pushed[0].address == "models:/race/1"
    assert numbers(remote, "race") == [1]


def test_many_versions_come_in_pages(
    remote: MlflowRegistry,
    store: LocalRegistry,
    register: Register,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for run in ("a", "b", "c"):
        remote.push(register("pages", run), store)
    monkeypatch.setattr("registry.remote.mlflow_versions._PAGE", 2)
    assert [str(v.version) for v in remote.versions("pages")] == ["1.0.0", "1.0.1", "1.0.2"]
    assert {"pages@1.0.1"} <= {v.id for v in remote.versions()}


def test_versions_that_others_made_are_left_alone(
    remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    client(remote).create_registered_model("shared")
    client(remote).create_model_version("shared", "s3://bucket/other")
    record = register("shared")
    assert remote.push(record, store).address == "models:/shared/2"
    assert [v.address for v in remote.versions("shared")] == ["models:/shared/2"]


def test_a_server_that_is_down_is_named_with_the_reason(
    store: LocalRegistry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    down = MlflowRegistry("http://ada:secret@127.0.0.1:9")
    with pytest.raises(RegistryError) as caught:
        down.push(register("down"), store)
    assert str(caught.value).startswith("MLflow at http://127.0.0.1:9: Connection refused. ")
    assert "secret" not in str(caught.value)


@pytest.fixture
def _no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    yield


@pytest.mark.usefixtures("_no_server")
def test_the_registry_is_where_the_runs_are_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryError, match="no MLflow server is named"):
        registry_of(None)
    (tmp_path / "runs").mkdir()
    assert registry_of(None).uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:secret@mlflow.example.com")
    assert registry_of(None).title == "MLflow at https://mlflow.example.com"
    assert shown("arn:aws:sagemaker:eu-west-1:1:mlflow-app/app-1").endswith("app-1")
