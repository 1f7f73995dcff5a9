"""Commands with a remote registry, from the command line to an emulated account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.remote.sagemaker import SageMakerRegistry
from registry.store import LocalRegistry
from temper.cli import main
from tests.run_commands import ROOT
from tests.unit.registry.runs import evaluated_run, make_run
from tests.unit.registry.sagemaker_account import emulated_registry

DEV = ("--env", "dev")


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SageMakerRegistry]:
    monkeypatch.chdir(ROOT)  # which has environments/dev.yaml
    monkeypatch.setenv("TEMPER_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("YES", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with emulated_registry() as registry:
        yield registry


def test_a_version_goes_from_a_run_to_approval_by_three_commands(
    tmp_path: Path, remote: SageMakerRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evaluated_run(tmp_path)
    assert main(["register", str(run), "--to", "sagemaker", *DEV]) == 0
    assert main(["models", *DEV]) == 0
    assert main(["promote", "support@1.0.0", "production", "--reason", "best", *DEV]) == 0
    said = capsys.readouterr().out
    assert "support@1.0.0 is in SageMaker (dev): PendingManualApproval, arn:aws:" in said
    assert "support@1.0.0 is production (Approved) in SageMaker (dev)" in said
    (version,) = remote.versions()
    assert (version.status, version.change.reason) == ("Approved", "best")
    assert LocalRegistry(tmp_path / "registry").find("support").stage == "production"


def test_a_version_in_one_registry_only_is_listed(
    tmp_path: Path, remote: SageMakerRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalRegistry(tmp_path / "elsewhere")
    assert main(["register", str(evaluated_run(tmp_path)), "--registry", str(store.root)]) == 0
    remote.push(store.find("support"), store)
    assert main(["register", str(evaluated_run(tmp_path, "b")), "--name", "other"]) == 0
    capsys.readouterr()
    assert main(["models", *DEV]) == 0
    heading, other, support = capsys.readouterr().out.splitlines()
    assert heading == "version        stage here  by  in SageMaker (dev)"
    assert other == "other@1.0.0    none        -   absent"
    assert support.startswith("support@1.0.0  absent      -   PendingManualApproval (arn:aws:")


MISTAKES = {
    ("push-model", "support"): "name the environment of the SageMaker registry: --env dev",
    ("push-model", "support", "--env", "none"): "environments/none.yaml does not exist",
    ("push-model", "support", *DEV): "support: no such model in",
    ("push-model", "support", "--to", "hub", *DEV): "'hub' is not a registry",
    ("models", "--env", "prod"): "the environment prod is not deployed",
}


def test_a_mistake_gets_one_message(
    remote: SageMakerRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in MISTAKES.items():
        assert main(list(arguments)) != 0
        said = capsys.readouterr().err
        assert message in said and "Traceback" not in said


def test_a_registry_that_cannot_be_reached_leaves_nothing_behind(
    tmp_path: Path, remote: SageMakerRegistry
) -> None:
    assert main(["register", str(make_run(tmp_path)), "--to", "sagemaker", "--env", "prod"]) != 0
    assert not (tmp_path / "registry").exists()


def test_a_promotion_of_a_version_that_was_not_pushed_changes_nothing(
    tmp_path: Path, remote: SageMakerRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["register", str(evaluated_run(tmp_path))]) == 0
    assert main(["promote", "support@1.0.0", "production", *DEV]) != 0
    assert "support@1.0.0 is not in SageMaker (dev)" in capsys.readouterr().err
    assert LocalRegistry(tmp_path / "registry").find("support").stage == "none"
