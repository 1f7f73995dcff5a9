"""Comparison of a record with its version in a remote registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from registry.command import RegisterOptions, register_model
from registry.errors import RegistryError
from registry.record import ModelRecord, StageChange
from registry.remote.base import RemoteVersion, differences, trees_of
from registry.remote.connect import connect_remote
from tests.unit.registry.runs import evaluated_run

NEVER = StageChange("none", "ana", "2026-01-01T00:00:00Z")


def pushed(record: ModelRecord) -> RemoteVersion:
    return RemoteVersion(
        record.name, record.version, trees_of(record), "arn:1", NEVER, "PendingManualApproval"
    )


def test_a_version_agrees_with_its_copy_until_one_of_them_changes(tmp_path: Path) -> None:
    record = register_model(RegisterOptions(evaluated_run(tmp_path), tmp_path / "registry"))
    remote = pushed(record)
    assert differences(record, remote) == []
    promoted = record.with_stage(StageChange("production", "ana", "2026-01-02T00:00:00Z"))
    assert differences(promoted, remote) == [
        "stage: production here, none (PendingManualApproval) there"
    ]
    other = replace(remote, trees={"safetensors": "0" * 64, "gguf": "1" * 64})
    assert differences(record, other) == [
        f"gguf: absent here, {'1' * 64} there",
        f"safetensors: {trees_of(record)['safetensors']} here, {'0' * 64} there",
    ]


def test_an_unknown_registry_is_refused() -> None:
    with pytest.raises(RegistryError, match=r"'hub' is not a registry\. Registries: sagemaker"):
        connect_remote("hub", None)
