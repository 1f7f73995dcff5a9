"""Training on a prepared data set: the same weights as on its rows, and its digest on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preparation.build import build
from preparation.config.load import parse_preparation
from preparation.plan import plan
from tests.run_commands import assert_identical, changed, train_here

pytestmark = pytest.mark.slow


def test_a_run_names_the_digest_of_the_prepared_data(
    document: dict[str, Any], pairs: Path, tmp_path: Path
) -> None:
    prepare = {"sources": str(pairs), "output": str(tmp_path / "out"), "workers": 1}
    job = parse_preparation({"name": "tidy", "prepare": prepare}, "job.yaml")
    folder = Path(build(plan(job), lambda *_: None))
    latest = str(folder.with_name("latest"))
    run = train_here(changed(document, data={"train": latest}), tmp_path / "prepared")
    manifest = json.loads((run.path / "manifest.json").read_text())
    digest = json.loads((folder / "report.json").read_text())["content_digest"]
    assert manifest["data"]["prepared"] == {latest: digest}
    raw = train_here(document, tmp_path / "raw")
    assert json.loads((raw.path / "manifest.json").read_text())["data"]["prepared"] == {}
    assert_identical(run, raw)
