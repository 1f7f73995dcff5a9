"""MLflow's model registry on a real server: its REST interface, artifacts, and its death."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.command import RegisterOptions, register_model
from registry.errors import RegistryError
from registry.record import ModelRecord, StageChange
from registry.remote.base import trees_of
from registry.remote.mlflow import MlflowRegistry
from registry.store import LocalRegistry
from tests.run_commands import ROOT
from tests.unit.registry.mlflow_server import MlflowServer, server_python
from tests.unit.registry.runs import evaluate, evaluated_run, make_run

pytestmark = pytest.mark.slow
PRODUCTION = StageChange("production", "ada", "2026-02-02T00:00:00Z")
PUSH = """
import sys
from pathlib import Path
from registry.remote.mlflow import MlflowRegistry
from registry.store import LocalRegistry
remote, store = MlflowRegistry(sys.argv[1]), LocalRegistry(Path(sys.argv[2]))
record = store.find(sys.argv[3])
remote.versions(record.name)  # MLflow is loaded and connected
print("ready", flush=True)
sys.stdin.readline()
print(remote.push(record, store).address)
"""
DOWNLOAD = """
import sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
print(mlflow.artifacts.download_artifacts(sys.argv[2], dst_path=sys.argv[3]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    made = MlflowServer(tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def store(tmp_path: Path) -> LocalRegistry:
    return LocalRegistry(tmp_path / "registry")


def rest(server: MlflowServer, method: str, call: str, **fields: Any) -> dict[str, Any]:
    """Call MLflow's REST interface, as its page in the browser does."""
    url, data = f"{server.uri}/api/2.0/mlflow/{call}", None
    if method == "GET":
        url += f"?{urllib.parse.urlencode(fields)}"
    else:
        data = json.dumps(fields).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def versions_of(server: MlflowServer, name: str) -> list[dict[str, Any]]:
    found = rest(server, "GET", "model-versions/search", filter=f"name='{name}'")
    return list(found.get("model_versions", []))


def registered(tmp_path: Path, store: LocalRegistry, name: str, run: str = "a") -> ModelRecord:
    return register_model(RegisterOptions(evaluated_run(tmp_path, run), store.root, name))


def test_processes_that_push_at_once_make_one_version_that_anyone_can_download(
    server: MlflowServer, store: LocalRegistry, tmp_path: Path
) -> None:
    record = registered(tmp_path, store, "answers")
    command = [sys.executable, "-c", PUSH, server.uri, str(store.root), record.id]
    started = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("\n") for process in started]
    assert {out for out, _ in outputs} == {"models:/answers/1\n"}, outputs
    (version,) = versions_of(server, "answers")
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["temper.tree.safetensors"] == trees_of(record)["safetensors"]
    remote = MlflowRegistry(server.uri)
    remote.set_stage(record, PRODUCTION)
    done = subprocess.run(
        [server_python(), "-c", DOWNLOAD, server.uri, "models:/answers@production", tmp_path / "d"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    folder = Path(done.stdout.splitlines()[-1]) / "safetensors"
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder)
    assert checked.returncode == 0


def test_an_alias_moved_in_the_browser_is_the_stage(
    server: MlflowServer, store: LocalRegistry, tmp_path: Path
) -> None:
    records = [registered(tmp_path, store, "moved", run) for run in "ab"]
    remote = MlflowRegistry(server.uri)
    for record in records:
        remote.push(record, store)
    remote.set_stage(records[0], PRODUCTION)
    rest(server, "POST", "registered-models/alias", name="moved", alias="production", version="2")
    assert [version.stage for version in remote.versions("moved")] == ["archived", "production"]
    rest(server, "DELETE", "registered-models/alias", name="moved", alias="production")
    assert [version.stage for version in remote.versions("moved")] == ["none", "none"]


def test_a_server_that_dies_half_way_holds_no_version_until_the_push_is_repeated(
    server: MlflowServer, store: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    run = make_run(tmp_path, weights="w" * (256 << 20))
    evaluate(run)
    record = register_model(RegisterOptions(run, store.root, "large"))
    artifacts = server.folder / "artifacts"
    before = _bytes_in(artifacts)
    errors: list[str] = []

    def push() -> None:
        try:
            MlflowRegistry(server.uri).push(record, store)
        except RegistryError as error:
            errors.append(str(error))

    pushing = threading.Thread(target=push)
    pushing.start()
    while pushing.is_alive() and _bytes_in(artifacts) < before + (1 << 20):
        time.sleep(0.002)
    server.kill()
    pushing.join()
    (error,) = errors
    assert error.startswith(f"MLflow at {server.uri}: "), error
    assert "What has arrived is kept" in error
    server.start()
    assert versions_of(server, "large") == []
    remote = MlflowRegistry(server.uri)
    assert remote.push(record, store).trees == trees_of(record)
    assert len(versions_of(server, "large")) == 1
    (experiment,) = rest(
        server, "POST", "experiments/search", filter="name = 'large'", max_results=10
    )["experiments"]
    ids = [experiment["experiment_id"]]
    assert len(rest(server, "POST", "runs/search", experiment_ids=ids)["runs"]) == 1
    (weights,) = artifacts.glob(f"{ids[0]}/*/artifacts/registered/*/safetensors/model.safetensors")
    assert weights.stat().st_size == 256 << 20


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # renamed in between
    return total
