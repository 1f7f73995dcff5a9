"""The local registry: concurrent registrations, rebuilding, stages and damaged files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.errors import NotConfirmed
from registry.blobs import blob_path
from registry.command import (
    RegisterOptions,
    diff_models,
    list_models,
    print_lineage,
    promote_model,
    register_model,
)
from registry.errors import RegistryError
from registry.record import StageChange
from registry.store import LocalRegistry
from tests.run_commands import ROOT
from tests.unit.registry.runs import evaluate, evaluated_run

REGISTER = """
import sys
from pathlib import Path
from registry.command import RegisterOptions, register_model
sys.stdin.readline()
register_model(RegisterOptions(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Registry with support@1.0.0 and, of other data, support@1.1.0."""
    root = tmp_path / "registry"
    register_model(RegisterOptions(evaluated_run(tmp_path), root))
    changed = evaluated_run(tmp_path, "b", data="d2", learning_rate=2e-4, hours=3.0)
    register_model(RegisterOptions(changed, root))
    return root


def test_processes_that_register_at_once_get_different_versions(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    runs = [evaluated_run(tmp_path, name) for name in "abcd"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, str(run), str(root)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for run in runs
    ]
    for process in started:  # all wait for this line, so that they begin together
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    versions = [str(record.version) for record in LocalRegistry(root).records("support")]
    assert versions == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]


def test_a_rebuilt_index_equals_the_old_one(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YES", "1")
    promote_model(registry, "support@1.0.0", "production")
    before = LocalRegistry(registry).records()
    for path in registry.glob("registry.db*"):
        path.unlink()
    assert LocalRegistry(registry).records() == []
    list_models(registry, None, rebuild=True)
    assert LocalRegistry(registry).records() == before
    assert [record.stage for record in before] == ["production", "none"]


def test_one_version_of_a_name_is_in_production(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotConfirmed, match=r"support@1\.0\.0 from none to production"):
        promote_model(registry, "support@1.0.0", "production")
    monkeypatch.setenv("YES", "1")
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    promote_model(registry, "support@1.0.0", "production")
    promote_model(registry, "support@1.1.0", "production")
    first, second = LocalRegistry(registry).records()
    assert (first.stage, second.stage) == ("archived", "production")
    assert second.approver == "ada"
    assert [change.stage for change in first.transitions] == ["production", "archived"]


@pytest.mark.parametrize(
    ("model", "stage", "message"),
    [
        ("support@1.0.0", "prod", "'prod' is not a stage. Stages: none, candidate"),
        ("support", "staging", "NAME@VERSION"),
        ("support@9.0.0", "staging", r"no such model in .*Registered: support@1\.0\.0"),
        ("other@1.0.0", "staging", "no such model"),
    ],
)
def test_a_promotion_that_cannot_be_meant(
    registry: Path, model: str, stage: str, message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        promote_model(registry, model, stage)


def _replace_weights(registry: Path) -> Path:
    record = LocalRegistry(registry).find("support@1.0.0")
    blob = blob_path(registry, record.forms["safetensors"]["model.safetensors"].sha256)
    blob.unlink()  # a hard link is the run's file, too
    blob.write_bytes(b"other weights")
    return blob


def test_a_changed_file_is_not_promoted(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = _replace_weights(registry)
    monkeypatch.setenv("YES", "1")
    with pytest.raises(RegistryError, match=f"{blob} was changed"):
        promote_model(registry, "support@1.0.0", "staging")
    assert LocalRegistry(registry).find("support@1.0.0").stage == "none"


def test_a_rebuild_names_every_damaged_file(registry: Path) -> None:
    blob = _replace_weights(registry)
    record = registry / "records" / "support" / "1.1.0.json"
    record.write_text(record.read_text().replace('"trees"', '"woods"'))
    with pytest.raises(RegistryError) as caught:
        list_models(registry, None, rebuild=True)
    assert str(record) in str(caught.value) and f"{blob} was changed" in str(caught.value)
    assert len(LocalRegistry(registry).records()) == 2


def test_a_file_that_cannot_be_stored_leaves_no_version(tmp_path: Path) -> None:
    run, root = evaluated_run(tmp_path), tmp_path / "registry"
    root.mkdir()
    (root / "blobs").write_text("not a folder")
    with pytest.raises(RegistryError, match="cannot be written"):
        register_model(RegisterOptions(run, root))
    assert LocalRegistry(root).records() == [] and not (root / "records").exists()


def test_a_registration_without_links_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("fcntl.ioctl", refuse)
    run, root = evaluated_run(tmp_path), tmp_path / "registry"
    record = register_model(RegisterOptions(run, root))
    blob = blob_path(root, record.forms["safetensors"]["model.safetensors"].sha256)
    assert blob.read_bytes() == (run / "model" / "model.safetensors").read_bytes()
    assert not list(root.rglob(".*"))


def test_models_are_listed_with_intervals(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list_models(registry, "support", rebuild=False)
    shown = "".join(capsys.readouterr())
    assert "support@1.1.0" in shown
    assert "  demo:  qa.score  0.7  (95 % 0.6 to 0.8, 100 items)\n" in shown


def test_a_diff_names_data_hyper_parameters_metrics_and_cost(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diff_models(registry, "support@1.0.0", "support@1.1.0")
    shown = "".join(capsys.readouterr())
    assert "  train: d1 -> d2" in shown
    assert "  train.learning_rate: 0.0001 -> 0.0002" in shown
    assert "  demo: qa.score 0.7 (0.6 to 0.8) -> 0.7 (0.6 to 0.8)" in shown
    assert "  usd: 7.5 -> 15.0" in shown
    assert "origin: same" in shown


def test_the_lineage_finds_a_base_by_its_weights(
    tmp_path: Path, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = tmp_path / "latest"
    latest.symlink_to(tmp_path / "runs" / "support" / "b")
    run = evaluated_run(tmp_path, "c", base=str(latest / "model"))
    evaluate(run, against=str(latest / "model"))
    register_model(RegisterOptions(run, registry, name="aligned"))
    print_lineage(registry, "aligned")
    assert ", registered as support@1.1.0\n" in "".join(capsys.readouterr())


def test_the_lineage_leads_to_the_base_and_the_data(
    tmp_path: Path, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "runs" / "support" / "a" / "model"
    run = evaluated_run(tmp_path, "c", base=str(base))
    record = register_model(RegisterOptions(run, registry, name="aligned"))
    change = StageChange("staging", "ada", "2026-01-02T00:00:00Z", "for review")
    LocalRegistry(registry).set_stage(record, change)
    print_lineage(registry, "aligned")
    shown = "".join(capsys.readouterr())
    assert f"\n  base        {base} (" in shown and "registered as support@1.0.0" in shown
    assert "\n    base      org/base (digest unknown)\n" in shown
    assert "\n  data        train d1\n" in shown
    assert "\n              preparation of x: p1\n" in shown
    assert "\n  evaluation  demo, 2026-01-01T00:00:00Z, against org/base\n" in shown
    assert "gates passed; suite s1\n" in shown
    assert "\n  staging     by ada, 2026-01-02T00:00:00Z (for review)\n" in shown
    assert "\n              qa  100 items, digest d1\n" in shown
