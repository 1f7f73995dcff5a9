"""Registration: versions, and the runs that are refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from registry.command import RegisterOptions, register_model
from registry.errors import RegistrationRefused, RegistryError
from registry.record import ModelRecord, record_from_json
from registry.version import parse_version
from tests.unit.registry.runs import evaluate, evaluated_run, make_run
from training.export.checksums import CHECKSUMS


def register(root: Path, run: Path, **options: Any) -> ModelRecord:
    return register_model(RegisterOptions(run, root / "registry", **options))


def test_a_record_holds_digests_metrics_and_origin(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    record = register(tmp_path, run)
    assert record.id == "support@1.0.0" and record.stage == "none"
    done = subprocess.run(
        ["sha256sum", "model.safetensors"],
        cwd=run / "model",
        capture_output=True,
        text=True,
        check=True,
    )
    form = record.forms["safetensors"]
    assert form["model.safetensors"].sha256 == done.stdout.split()[0]
    assert {"job.yaml", "manifest.json", "evaluation/demo/results.json"} <= set(record.evidence)
    (evaluation,) = record.evaluations
    assert evaluation["metrics"]["qa.score"] == {
        "value": 0.7, "low": 0.7 - 0.1, "high": 0.7 + 0.1, "items": 100, "higher_is_better": True
    }  # fmt: skip
    assert record.provenance.run == "support/a"
    assert record.provenance.cost_usd == 7.5  # 10 USD for 2 h, measured 1.5 h
    assert record_from_json(record.to_json()) == record


def test_an_export_for_transformers_4_is_a_form_of_its_own(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    (run / "export" / "transformers-4").mkdir(parents=True)
    (run / "export" / "other").mkdir()
    for folder in ("transformers-4", "other"):
        (run / "export" / folder / "model.safetensors").write_bytes(folder.encode())
    forms = register(tmp_path, run).forms
    assert set(forms) == {"safetensors", "transformers-4"}
    assert set(forms["transformers-4"]) == {"model.safetensors"}


def test_a_stage_has_the_name_of_its_pipeline(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    stage = tmp_path / "runs" / "life" / "20260301-110000" / "stages" / "01-teach"
    stage.parent.mkdir(parents=True)
    run.rename(stage)
    record = register(tmp_path, stage)
    assert record.id == "life@1.0.0"
    assert record.provenance.run == "life/20260301-110000/stages/01-teach"


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({"base": "org/other"}, "2.0.0"),
        ({"tokenizer": "t2"}, "2.0.0"),
        ({"data": "d2"}, "1.1.0"),
        ({"method": "dpo"}, "1.1.0"),
        ({"learning_rate": 2e-4}, "1.0.1"),
    ],
)
def test_the_version_says_what_changed(
    tmp_path: Path, changes: dict[str, Any], version: str
) -> None:
    register(tmp_path, evaluated_run(tmp_path))
    second = register(tmp_path, evaluated_run(tmp_path, "b", **changes))
    assert str(second.version) == version


def test_a_version_can_be_set_once(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    assert str(register(tmp_path, run, version="3.2.1").version) == "3.2.1"
    with pytest.raises(RegistryError, match=r"support@3\.2\.1 exists"):
        register(tmp_path, run, version="3.2.1")
    assert str(register(tmp_path, run).version) == "3.2.2"


@pytest.mark.parametrize("text", ["1.4", "v1.4.0", "1.04.0", "1.4.0-rc1", ""])
def test_other_spellings_of_a_version_are_refused(text: str) -> None:
    with pytest.raises(RegistryError, match=r"MAJOR\.MINOR\.PATCH"):
        parse_version(text)


def test_checksums_are_those_that_sha256sum_reads(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    done = subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=run / "model")
    assert done.returncode == 0


@pytest.mark.parametrize("state", ["running", "stopped", "failed"])
def test_an_unfinished_run_is_refused(tmp_path: Path, state: str) -> None:
    run = evaluated_run(tmp_path, state=state)
    with pytest.raises(RegistrationRefused, match=f"{state}, not finished"):
        register(tmp_path, run, override="it is good")


def test_a_changed_file_is_refused_with_its_name_whatever_the_reason(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    (run / "model" / "config.json").write_text('{"eos_token_id": 3}')
    (run / "model" / "added.bin").write_bytes(b"x")
    with pytest.raises(RegistrationRefused) as caught:
        register(tmp_path, run, override="it is good")
    assert "config.json has the SHA-256" in str(caught.value)
    assert "added.bin was added" in str(caught.value)
    assert "--override" not in str(caught.value)
    assert not (tmp_path / "registry" / "records").exists()


def test_a_run_without_checksums_is_refused(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    (run / "model" / CHECKSUMS).unlink()
    with pytest.raises(RegistrationRefused, match="has no SHA256SUMS"):
        register(tmp_path, run)


def test_results_of_other_weights_are_refused(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    path = run / "evaluation" / "demo" / "results.json"
    document = json.loads(path.read_text())
    document["model"]["digest"] = "0" * 64
    path.write_text(json.dumps(document))
    with pytest.raises(RegistrationRefused, match="measured on weights with the digest 0000"):
        register(tmp_path, run, override="it is good")


def test_a_damaged_file_of_results_is_named(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path)
    (run / "evaluation" / "demo" / "results.json").write_text("{")
    with pytest.raises(RegistrationRefused, match=r"demo/results\.json cannot be read"):
        register(tmp_path, run)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (None, "no evaluation"),
        ({"passed": False}, "gate of demo not passed: qa.score at least 0.6"),
        ({"difference": -0.1}, "significantly worse than the base's: -0.1"),
        ({"higher_is_better": False}, "significantly worse than the base's: \\+0.1"),
    ],
)
def test_quality_needs_evidence_or_a_recorded_reason(
    tmp_path: Path, results: dict[str, Any] | None, message: str
) -> None:
    run = make_run(tmp_path)
    if results is not None:
        evaluate(run, **results)
    with pytest.raises(RegistrationRefused, match=message) as caught:
        register(tmp_path, run)
    assert "--override" in str(caught.value)
    record = register(tmp_path, run, override="demo of Friday")
    assert record.override == "demo of Friday" and len(record.overridden) == 1
    with pytest.raises(RegistryError, match="needs a reason"):
        register(tmp_path, run, override=" ")


@pytest.mark.parametrize("results", [{"difference": -0.1, "p": 0.2}, {"difference": 0.1}])
def test_a_difference_that_is_not_significant_or_an_improvement_is_registered(
    tmp_path: Path, results: dict[str, Any]
) -> None:
    run = make_run(tmp_path)
    evaluate(run, **results)
    assert register(tmp_path, run).override is None


def test_worse_than_another_model_than_the_base_is_registered(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    evaluate(run, difference=-0.3, against="org/teacher")
    assert register(tmp_path, run).overridden == ()
