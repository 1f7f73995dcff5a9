"""The schema that editors read accepts what the loader accepts, and refuses what it refuses."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from preparation.config.job import PreparationJob
from search.config import SearchSettings
from tests.run_commands import ROOT, changed
from training.config.schema import PATH, render

CONTRACT = ROOT.parent / "shared/contract/jobs"
JOBS = sorted([*(ROOT / "jobs").glob("*.yaml"), *CONTRACT.glob("*.yaml")])
SCHEMA = json.loads((ROOT / PATH).read_text())


def faults(document: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(document)]


def test_schema_is_up_to_date() -> None:
    expected = render({"search": SearchSettings}, (PreparationJob,))
    assert (ROOT / PATH).read_text() == expected, "run `make schema` and commit the file"


def test_schema_describes_fields() -> None:
    text = json.dumps(SCHEMA)
    assert SCHEMA["title"]
    assert "Rows per optimizer step" in text


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_that_runs_is_valid(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    kind = "Pipeline" if "stages" in document else "Job"
    kind = "PreparationJob" if "prepare" in document else kind
    # Not by the union, whose message names every alternative.
    schema = {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]}
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    assert [f"{error.json_path}: {error.message}" for error in found] == []


def test_one_source_or_file_needs_no_list() -> None:
    prepare = {
        "sources": "a.jsonl",
        "steps": [
            {"step": "decontaminate", "against": "b.jsonl"},
            {"step": "quality_classifier", "good": "c.jsonl", "bad": ["d.jsonl"]},
        ],
        "report": {"by": "dialect"},
    }
    synthesize = {
        "kind": "paraphrase",
        "prompts": "e.jsonl",
        "teacher": {"kind": "local", "source": "m"},
        "rows": 5,
    }
    assert faults({"name": "tidy", "synthesize": synthesize, "prepare": prepare}) == []
    prepare["steps"][0]["against"] = 5
    assert faults({"name": "tidy", "prepare": prepare})


@pytest.mark.parametrize(
    "mistake",
    [
        {"train": {"learning_rat": 1e-4}},
        {"data": {"train": {"sourc": "a.jsonl"}}},
        {"data": {"train": 5}},
        {"search": {"trails": 3}},
        {"method": {"kind": "sfft"}},
    ],
    ids=str,
)
def test_a_mistake_is_marked(mistake: dict[str, Any]) -> None:
    document = yaml.safe_load((ROOT / "jobs/search.yaml").read_text())
    assert faults(document) == []
    assert faults(changed(document, **mistake))
