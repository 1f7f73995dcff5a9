"""The schema that editors read says what the code says."""

from __future__ import annotations

import json

from tests.run_commands import ROOT
from training.config.schema import PATH, render


def test_schema_is_up_to_date() -> None:
    assert (ROOT / PATH).read_text() == render(), "run `make schema` and commit the file"


def test_schema_describes_fields() -> None:
    schema = json.loads(render())
    text = json.dumps(schema)
    assert "Rows per optimizer step, whatever the number of devices." in text
    assert schema["title"]
