"""The schema that editors read accepts pipelines that load, and marks mistakes."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.load import load_pipeline
from pipeline.schema import PIPELINE_SCHEMA, render_pipeline_schema
from tests.run_commands import ROOT

FILES = sorted((ROOT / "pipelines").glob("*.yaml"))
SCHEMA = json.loads((ROOT / PIPELINE_SCHEMA).read_text())


def faults(document: Any) -> list[str]:
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def test_schema_is_up_to_date() -> None:
    expected = render_pipeline_schema()
    assert (ROOT / PIPELINE_SCHEMA).read_text() == expected, "run `make schema` and commit the file"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_pipeline_names_its_schema_and_is_valid(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert load_pipeline(path).order
    assert faults(yaml.safe_load(path.read_text())) == []


def test_gates_are_one_name_or_a_list() -> None:
    document = yaml.safe_load((ROOT / "pipelines/docs.yaml").read_text())
    for gate in ("better", ["better"], []):
        document["steps"]["register"]["gate"] = gate
        assert faults(document) == []
    document["steps"]["register"]["gate"] = 5
    assert faults(document)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("nmae",), "docs"),
        (("limits", "cooldwn"), "6h"),
        (("steps", "train", "kind"), "trian"),
        (("steps", "train", "jbo"), "train.yaml"),
        (("steps", "better", "level"), 2),
        (("steps", "register", "stage"), "live"),
    ],
    ids=str,
)
def test_a_mistake_is_marked(keys: tuple[str, ...], value: Any) -> None:
    document = copy.deepcopy(yaml.safe_load((ROOT / "pipelines/docs.yaml").read_text()))
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    assert faults(document)
