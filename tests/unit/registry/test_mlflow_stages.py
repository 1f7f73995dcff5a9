"""Stages as aliases of MLflow's registry, and their agreement with the local registry."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from registry.errors import RegistryError
from registry.record import StageChange
from registry.remote.mlflow import MlflowRegistry
from registry.store import LocalRegistry
from temper.cli import main
from tests.unit.registry.mlflow_store import Register, client, numbers
from tests.unit.registry.runs import evaluated_run

STAGING = StageChange("staging", "ada", "2026-02-01T00:00:00Z")
PRODUCTION = StageChange("production", "ada at home", "2026-02-02T00:00:00Z", "better: at last")


def test_stages_are_aliases_and_tell_who_set_them(
    remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    first, second = register("stages"), register("stages", "b", data="d2")
    for record in (first, second):
        remote.push(record, store)
    assert remote.set_stage(first, STAGING).change == STAGING
    later = StageChange("staging", "bo", "2026-02-03T00:00:00Z")
    assert remote.set_stage(second, later).change == later
    assert remote.set_stage(first, STAGING).change == STAGING  # repeated: the alias stays
    model = client(remote).get_registered_model("stages")
    assert model.aliases == {"staging": 2}
    remote.set_stage(second, PRODUCTION)
    # The first is still in staging, and has the alias again.
    aliases = client(remote).get_registered_model("stages").aliases
    assert aliases == {"production": 2, "staging": 1}
    assert [v.change for v in remote.versions("stages")] == [STAGING, PRODUCTION]
    archived = StageChange("archived", "bo", "2026-02-04T00:00:00Z")
    assert remote.set_stage(second, archived).change == archived
    assert client(remote).get_registered_model("stages").aliases == {"staging": 1}
    remote.set_stage(first, archived)
    assert client(remote).get_registered_model("stages").aliases == {}


def test_an_alias_that_someone_set_or_removed_in_mlflow_is_noticed(
    remote: MlflowRegistry, store: LocalRegistry, register: Register
) -> None:
    first, second = register("moved"), register("moved", "b", data="d2")
    for record in (first, second):
        remote.push(record, store)
    remote.set_stage(first, PRODUCTION)
    client(remote).set_registered_model_alias("moved", "production", "2")
    was, now = remote.versions("moved")
    assert (was.stage, was.change.approver) == ("archived", "someone in MLflow")
    assert (now.stage, now.status) == ("production", "alias production")
    assert now.change.time > PRODUCTION.time
    remote.set_stage(second, PRODUCTION)
    client(remote).delete_registered_model_alias("moved", "production")
    assert [v.stage for v in remote.versions("moved")][1] == "none"
    # An alias of another meaning is none of ours.
    client(remote).set_registered_model_alias("moved", "champion", "2")
    assert remote.versions("moved")[1].status == "alias champion"


def test_a_crash_between_alias_and_tag_leaves_the_new_stage(
    remote: MlflowRegistry,
    store: LocalRegistry,
    register: Register,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = register("crash")
    remote.push(record, store)

    def crash(*_: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(remote._connected, "set_model_version_tag", crash)
        with pytest.raises(RegistryError, match=r"Connection reset by peer\. Check that it runs"):
            remote.set_stage(record, PRODUCTION)
    assert [v.stage for v in remote.versions("crash")] == ["production"]
    assert remote.set_stage(record, PRODUCTION).change == PRODUCTION


def test_a_version_that_was_not_pushed_has_no_stage(
    remote: MlflowRegistry, register: Register
) -> None:
    with pytest.raises(RegistryError, match=r"absent@1\.0\.0 is not in MLflow .* push-model"):
        remote.set_stage(register("absent"), STAGING)


def test_the_alias_of_production_always_points_to_a_version(
    remote: MlflowRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEMPER_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("YES", "1")
    mlflow = ("--to", "mlflow", "--tracking-uri", remote.uri)
    seen: list[dict[str, Any]] = []
    set_tag = type(client(remote)).set_model_version_tag

    def spy(self: Any, name: str, *arguments: Any) -> None:
        seen.append(self.get_registered_model(name).aliases)
        set_tag(self, name, *arguments)

    for run in ("a", "b"):
        folder = str(evaluated_run(tmp_path, run))
        assert main(["register", folder, "--name", "always", *mlflow]) == 0
    assert main(["promote", "always@1.0.0", "production", *mlflow]) == 0
    monkeypatch.setattr("mlflow.tracking.MlflowClient.set_model_version_tag", spy)
    assert main(["promote", "always@1.0.1", "production", *mlflow]) == 0
    assert seen == [{"production": 2}] * 2
    assert [v.stage for v in remote.versions("always")] == ["archived", "production"]


@pytest.mark.parametrize("one_second", [False, True])
def test_an_alias_moved_in_mlflow_changes_the_stage_here(
    remote: MlflowRegistry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    one_second: bool,
) -> None:
    if one_second:
        moment = time.gmtime()
        monkeypatch.setattr(time, "gmtime", lambda *_: moment)
    store = LocalRegistry(tmp_path / "registry")
    monkeypatch.setenv("TEMPER_REGISTRY", str(store.root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", remote.uri)
    monkeypatch.setenv("YES", "1")
    name = f"agree-{one_second}"
    for run in ("a", "b"):
        folder = str(evaluated_run(tmp_path, run))
        assert main(["register", folder, "--name", name, "--to", "mlflow"]) == 0
    # Promoted here only: MLflow is changed after a question.
    assert main(["promote", f"{name}@1.0.0", "production"]) == 0
    assert main(["models", name, "--to", "mlflow"]) == 0
    assert client(remote).get_registered_model(name).aliases == {"production": 1}
    client(remote).set_registered_model_alias(name, "production", "2")
    capsys.readouterr()
    assert main(["models", name, "--to", "mlflow"]) == 0
    shown = capsys.readouterr().out
    assert f"{name}@1.0.1 is production here, by someone in MLflow" in shown
    assert [r.stage for r in store.records(name)] == ["archived", "production"]
    assert main(["models", name, "--to", "mlflow"]) == 0
    assert "differs" not in capsys.readouterr().out, "the registries agree"
    client(remote).delete_registered_model_alias(name, "production")
    assert main(["models", name, "--to", "mlflow"]) == 0
    assert [r.stage for r in store.records(name)] == ["archived", "none"]


def test_a_push_that_fails_is_repeated_without_another_version(
    remote: MlflowRegistry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEMPER_REGISTRY", str(tmp_path / "registry"))
    folder, mlflow = str(evaluated_run(tmp_path)), ("--tracking-uri", remote.uri)

    def fail(*_: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.log_artifacts", fail)
        assert main(["register", folder, "--name", "half", *mlflow]) != 0
    said = capsys.readouterr().err
    assert "Connection reset by peer" in said and "Traceback" not in said
    assert "half@1.0.0 is registered here. To push it: temper push-model half@1.0.0" in said
    assert main(["push-model", "half@1.0.0", *mlflow]) == 0
    assert numbers(remote, "half") == [1]
    text = (tmp_path / "registry" / "records" / "half" / "1.0.0.json").read_text()
    assert json.loads(text)["version"] == "1.0.0"


def test_a_server_that_is_down_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("TEMPER_REGISTRY", str(tmp_path / "registry"))
    folder = str(evaluated_run(tmp_path))
    assert main(["register", folder, "--tracking-uri", "http://127.0.0.1:9"]) != 0
    assert "MLflow at http://127.0.0.1:9: Connection refused" in capsys.readouterr().err
    assert not (tmp_path / "registry").exists()
    assert main(["models", "--to", "sagemaker", "--tracking-uri", "http://127.0.0.1:9"]) != 0
    assert "--tracking-uri names an MLflow server: --to mlflow" in capsys.readouterr().err
