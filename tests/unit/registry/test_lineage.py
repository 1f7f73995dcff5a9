"""Lineage of versions in SageMaker: entities and associations, shared and made once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from emulator.botocore_schema import validation_errors
from registry.command import RegisterOptions, register_model
from registry.remote.lineage import lineage_entities
from registry.store import LocalRegistry
from tests.lineage_in_moto import lineage_in_moto
from tests.unit.registry.runs import evaluate, make_run
from tests.unit.registry.sagemaker_account import emulated_registry

PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/temper-dev-models/1"


def register(root: Path, name: str, **changes: Any) -> Any:
    """Register a run, and return its record."""
    run = make_run(root, name, **changes)
    evaluate(run)
    return register_model(RegisterOptions(run, root / "registry"))


def test_the_requests_are_those_that_the_service_describes(tmp_path: Path) -> None:
    entities = lineage_entities(register(tmp_path, "a"), PACKAGE)
    for request in (*entities.inputs, entities.model, *entities.results):
        assert validation_errors("sagemaker", "CreateArtifact", request) == []
    assert validation_errors("sagemaker", "CreateAction", entities.action) == []
    kinds = [(one["ArtifactType"], one["Source"]["SourceUri"]) for one in entities.inputs]
    assert kinds == [("DataSet", "sha256:d1"), ("DataSet", "sha256:p1"), ("Model", "org/base")]
    assert entities.action["Source"]["SourceUri"] == "support/a"
    assert entities.action["MetadataProperties"] == {"CommitId": "c0ffee"}
    assert re.fullmatch(r"support-a-[0-9a-f]{10}", entities.action["ActionName"])


def test_a_version_leads_back_to_its_data_and_base(tmp_path: Path) -> None:
    with emulated_registry() as remote:
        store = LocalRegistry(tmp_path / "registry")
        first = remote.push(register(tmp_path, "a"), store)
        second = remote.push(register(tmp_path, "b"), store)
        client = remote._client
        (model,) = found(client, first.address)
        above = client.query_lineage(StartArns=[model], Direction="Ascendants")["Vertices"]
        assert sorted((one["LineageType"], one["Type"]) for one in above) == [
            ("Action", "TrainingJob"),
            ("Artifact", "DataSet"),
            ("Artifact", "DataSet"),
            ("Artifact", "EvaluationReport"),
            ("Artifact", "Model"),
        ]
        (data,) = found(client, "sha256:d1")
        below = client.query_lineage(
            StartArns=[data], Direction="Descendants", Filters={"LineageTypes": ["Artifact"]}
        )["Vertices"]
        models = {one["Arn"] for one in below}
        assert models == {*found(client, first.address), *found(client, second.address)}


def test_a_second_push_adds_nothing(tmp_path: Path) -> None:
    with emulated_registry() as remote:
        record, store = register(tmp_path, "a"), LocalRegistry(tmp_path / "registry")
        remote.push(record, store)
        before = counts(remote._client)
        remote.push(record, store)
        assert counts(remote._client) == before


def test_a_refusal_registers_the_version_without_its_lineage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with emulated_registry() as remote, lineage_in_moto() as lineage:
        record, store = register(tmp_path, "a"), LocalRegistry(tmp_path / "registry")
        lineage.errors.plant("ListActions", "AccessDeniedException", "no")
        remote.push(record, store)
        assert "support@1.0.0 is registered without its lineage" in capsys.readouterr().out
        assert [one.id for one in remote.versions()] == ["support@1.0.0"]


def found(client: Any, uri: str) -> list[str]:
    """Return the ARNs of the artifacts of a source."""
    return [one["ArtifactArn"] for one in client.list_artifacts(SourceUri=uri)["ArtifactSummaries"]]


def counts(client: Any) -> tuple[int, int, int]:
    """Return the numbers of artifacts, actions and associations."""
    return (
        len(client.list_artifacts(MaxResults=100)["ArtifactSummaries"]),
        len(client.list_actions()["ActionSummaries"]),
        len(client.list_associations(MaxResults=100)["AssociationSummaries"]),
    )
